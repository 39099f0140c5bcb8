//! Event buses.

pub(crate) mod local;
