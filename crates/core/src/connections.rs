//! The connections to the database, as far as they can run short.

/// How the connections of one kind stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionState {
    /// What they are for.
    pub purpose: &'static str,
    /// How many there may be at most.
    pub limit: u64,
    /// How many are in use.
    pub busy: u64,
    /// How many callers wait for one.
    pub waiting: u64,
}

/// A storage with connections.
pub trait Connections: Send + Sync {
    /// How they stand now, by purpose.
    fn connections(&self) -> Vec<ConnectionState>;
}
