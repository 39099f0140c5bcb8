//! Event buses: within one process, and between the replicas of a server.

mod ended;
mod followed;
mod following;
mod frames;
mod holding;
pub(crate) mod local;
mod log;
#[cfg(feature = "testkit")]
pub(crate) mod memory;
mod notifications;
mod postgres;
mod redis;
pub(crate) mod redis_uri;
pub(crate) mod shared;
mod wants;
mod wire;
