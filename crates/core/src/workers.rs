//! How the processes stand that execute graphs.

use std::time::Duration;

/// The processes of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// Those that there are, each at a place of its own, which another one takes when it dies.
    pub processes: Vec<WorkerState>,
    /// How many had to be replaced since the start.
    pub replaced: u64,
}

/// One of them, as it last said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerState {
    /// How many runs go on there.
    pub runs: u64,
    /// How many bytes of memory it occupies.
    pub memory: u64,
    /// How late its event loop was to do what was due.
    pub lag: Duration,
}
