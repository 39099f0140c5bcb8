//! The queue that runs wait in: how they are claimed under a lease, kept, and given back.

use std::time::Duration;

use crate::{
    cancel::CancelAction,
    checkpoints::CheckpointTuple,
    ids::{LeaseId, RunId},
    json::Object,
    runs::{Ending, Run},
    sealing::SealingContext,
    time::Timestamp,
};

/// Why a run goes back to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenBack {
    /// Its attempt failed.
    Failed,
    /// Its attempt could not go on, for no fault of its own.
    Blameless,
    /// Its worker died while several runs were on it, and nobody knows whose fault that was.
    SharedLoss,
}

/// A lease to be given.
#[derive(Clone, Copy, Debug)]
pub struct NewLease {
    /// Its id.
    pub lease_id: LeaseId,
    /// When it ends unless renewed.
    pub until: Timestamp,
}

/// The right of one server to write for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The run.
    pub run_id: RunId,
    /// Made anew with each claim, so that an earlier holder is told apart.
    pub lease_id: LeaseId,
}

/// Why an attempt is to go on no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Somebody asked for it.
    Asked(CancelAction),
    /// Its lease is not the run's any more: it was taken over, has ended, or was deleted.
    Lost,
}

/// How runs are taken from the queue.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRuns {
    /// The id of the leases to be given.
    pub lease_id: LeaseId,
    /// How many runs at most.
    pub limit: u32,
    /// The present moment.
    pub now: Timestamp,
    /// When the leases end unless renewed.
    pub until: Timestamp,
}

/// What the queue gave.
#[derive(Clone, Debug, Default)]
pub struct ClaimedRuns {
    /// Oldest first, at most one per thread, none whose thread has a running run.
    pub runs: Vec<ClaimedRun>,
    /// When the next run becomes due that is only waiting for its time.
    pub next_due: Option<Timestamp>,
}

/// A run that this server may now execute. What users say in it may be encrypted until it is opened.
#[derive(Clone, Debug)]
pub struct ClaimedRun {
    /// The run, running, with the attempt counted.
    pub run: Run,
    /// The right to write for it.
    pub lease: Lease,
    /// The metadata of its thread.
    pub thread_metadata: Object,
    /// The newest checkpoint of the thread's root namespace.
    pub head: Option<CheckpointTuple>,
    /// Whether an earlier attempt left a checkpoint to go on from.
    pub resume: bool,
    /// How many events earlier attempts of a resumable run said.
    pub said: u64,
    /// Under which context what it leaves is encrypted by the project's own handlers.
    pub sealing: SealingContext,
}

/// What became of runs whose leases ended.
#[derive(Clone, Debug, Default)]
pub struct ExpiredRuns {
    /// Back in the queue.
    pub requeued: Vec<RunId>,
    /// Ended: they were asked to stop, or their attempts are used up. What users say in them may be encrypted still.
    pub ended: Vec<(Run, Ending)>,
}

/// How runs with ended leases are treated.
#[derive(Clone, Copy, Debug)]
pub struct ExpireLeases {
    /// The present moment.
    pub now: Timestamp,
    /// How many attempts a run has.
    pub max_attempts: u32,
}

/// How the queue stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Runs that wait.
    pub pending: u64,
    /// Runs that are executed.
    pub running: u64,
    /// For how long the first of those has waited that are due.
    pub longest_wait: Duration,
    /// For how long half of those have waited at least.
    pub median_wait: Duration,
}
