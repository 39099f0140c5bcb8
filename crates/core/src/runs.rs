//! Runs: one invocation of an assistant on a thread, and the queue they wait in.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use crate::{
    queue::{
        ClaimRuns, ClaimedRun, ClaimedRuns, ExpireLeases, ExpiredRuns, GivenBack, Halt, Lease, NewLease, QueueStats,
    },
    run_kwargs::{Durability, PauseAt, RunKwargs, Star},
};

use crate::{
    cancel::{CancelCause, CancelRequest, CancelRun, CancelledRun},
    event_streaming::lifecycle_of,
    ids::{AssistantId, RunId, ThreadId},
    json::{Object, RawJson},
    limits::{Counted, PerOwner, QueueFull},
    metadata_filter::MetadataFilter,
    page::{Page, Window},
    push_configs::PushConfig,
    retention::ThreadTtl,
    storage::Result,
    stream::StreamEvent,
    threads::ThreadUpdate,
    time::Timestamp,
};

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of LangGraph")]
pub enum RunStatus {
    Pending,
    Running,
    Success,
    Error,
    Timeout,
    Interrupted,
}

impl RunStatus {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
        }
    }

    /// Reads the word on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Success, Self::Error, Self::Timeout, Self::Interrupted]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// Whether the run has ended for good.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }
}

/// What to do about the runs that a thread already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MultitaskStrategy {
    /// Wait for them.
    #[default]
    Enqueue,
    /// Refuse the new run.
    Reject,
    /// Stop them and keep what they did.
    Interrupt,
    /// Stop them and undo what they did.
    Rollback,
}

/// One invocation of an assistant on a thread.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Its id, which sorts by creation.
    pub run_id: RunId,
    /// The thread whose state it works on.
    pub thread_id: ThreadId,
    /// The assistant it runs.
    pub assistant_id: AssistantId,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its status last changed.
    pub updated_at: Timestamp,
    /// Where it stands.
    pub status: RunStatus,
    /// Annotations: the assistant's, overlaid by the request's.
    pub metadata: Object,
    /// What it is executed with.
    pub kwargs: RunKwargs,
    /// What it did about other runs of its thread.
    pub multitask_strategy: MultitaskStrategy,
    /// Always null: there is no LangSmith session.
    pub langsmith_session_name: Option<String>,
    /// The graph of the assistant when the run was made.
    #[serde(skip)]
    pub graph_id: String,
    /// How many attempts have begun.
    #[serde(skip)]
    pub attempt: u32,
    /// How many of them were given up for no fault of the run's.
    #[serde(skip)]
    pub uncounted: u32,
    /// How often it was there when a worker died that several runs shared.
    #[serde(skip)]
    pub shared_losses: u32,
    /// When the first attempt began.
    #[serde(skip)]
    pub started_at: Option<Timestamp>,
    /// `{"error": class, "message": text}` when it failed.
    #[serde(skip)]
    pub error: Option<RawJson>,
}

impl Run {
    /// How many attempts count, of those that it has.
    pub fn counted_attempts(&self) -> u32 {
        self.attempt.saturating_sub(self.uncounted)
    }
}

/// A run to be made.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// The run, pending.
    pub run: Run,
    /// When it may start.
    pub due_at: Timestamp,
    /// What a thread that exists must be one of; others are as good as missing.
    pub within: MetadataFilter,
    /// What to do when the thread does not exist: make it with this metadata, or refuse.
    pub create_thread: Option<Object>,
    /// How long a thread is kept that is made for this run.
    pub thread_ttl: Option<ThreadTtl>,
    /// Laid over the thread's metadata.
    pub thread_metadata: Object,
    /// Replaces the thread's config.
    pub thread_config: Object,
    /// Whether the end of a run may be told to its webhook at all.
    pub webhooks_enabled: bool,
    /// Where to tell how the run's task stands.
    pub push_config: Option<PushConfig>,
    /// How limits count it, where there are any.
    pub counted: Option<Counted>,
    /// Claimed as it is made, when it is due and nothing else of its thread goes on: who makes it has room for it.
    pub claim: Option<NewLease>,
}

/// What came of making a run.
#[derive(Clone, Debug)]
pub enum CreatedRun {
    /// It is in the queue. Runs that were still pending and gave way have ended; those that were running are to be
    /// signalled and end soon.
    Created {
        /// Runs of the thread that ended in the same transaction.
        ended: Vec<RunId>,
        /// Runs of the thread that are asked to stop.
        stopping: Vec<RunId>,
        /// The run itself, if it was claimed.
        claimed: Option<Box<ClaimedRun>>,
    },
    /// The thread does not exist and nobody asked to make it.
    ThreadMissing,
    /// The thread has a pending or running run and the strategy is to refuse.
    ThreadBusy,
    /// Too many runs wait already.
    QueueFull(QueueFull),
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// How.
    pub status: EndStatus,
    /// What went wrong, or why it was stopped.
    pub error: Option<RunError>,
    /// What stopped it, if something did.
    pub cause: Option<CancelCause>,
    /// The values to tell the webhook.
    pub values: Option<RawJson>,
    /// What it leaves on its thread, or nothing to leave the thread as it was.
    pub thread: Option<ThreadUpdate>,
    /// When.
    pub at: Timestamp,
    /// Whether it says that the project's own encryption failed: such an end holds nothing of what users said, and is not
    /// encrypted, since that would fail again. No code of users decides this.
    pub unsealed: bool,
}

impl Ending {
    /// What the stream of its run closes with, if anything.
    pub fn last_event(&self, run: &Run) -> Option<StreamEvent> {
        if run.kwargs.event_streaming() {
            return Some(lifecycle_of(run, self));
        }
        self.failure().map(|error| StreamEvent::of("error", error))
    }

    /// What went wrong, when the run failed.
    pub fn failure(&self) -> Option<&RunError> {
        self.error.as_ref().filter(|_| self.status == EndStatus::Error)
    }
}

/// The ways a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndStatus {
    /// The graph came to its end or paused.
    Success,
    /// The graph raised, or could not be executed.
    Error,
    /// It took too long.
    Timeout,
    /// It was stopped and its work kept.
    Interrupted,
    /// It was stopped, its work undone, and its row deleted.
    Rollback,
}

impl EndStatus {
    /// The word in a webhook.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            kept => kept.run_status().as_str(),
        }
    }

    /// The status of the run's row; a rolled back run has none, and would be interrupted.
    pub fn run_status(self) -> RunStatus {
        match self {
            Self::Success => RunStatus::Success,
            Self::Error => RunStatus::Error,
            Self::Timeout => RunStatus::Timeout,
            Self::Interrupted | Self::Rollback => RunStatus::Interrupted,
        }
    }
}

/// A failure as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// The class of the exception.
    pub error: String,
    /// What it says.
    pub message: String,
}

/// Which runs of a thread to list.
#[derive(Clone, Copy, Debug)]
pub struct RunQuery {
    /// The thread.
    pub thread_id: ThreadId,
    /// Only runs that stand here.
    pub status: Option<RunStatus>,
}

/// Stored runs.
///
/// Each method that ends a run also writes the delivery of its webhook, if it has one, in the same transaction.
#[async_trait]
pub trait Runs: Send + Sync {
    /// Puts a run into the queue and applies its multitask strategy to the thread's other runs.
    async fn create_run(&self, new: NewRun) -> Result<CreatedRun>;
    /// How the queue stands.
    async fn queue_stats(&self, now: Timestamp) -> Result<QueueStats>;
    /// Puts runs that bring their own threads into the queue: all of them or none.
    async fn create_runs(&self, new: Vec<NewRun>) -> Result<Result<(), QueueFull>>;
    /// The run with this id on this thread.
    async fn run(&self, thread_id: ThreadId, run_id: RunId) -> Result<Option<Run>>;
    /// The run with this id.
    async fn run_by_id(&self, run_id: RunId) -> Result<Option<Run>>;
    /// The same as it stands in the database: what users say in it may be encrypted, and no handler is waited for.
    async fn unopened_run(&self, run_id: RunId) -> Result<Option<Run>> {
        self.run_by_id(run_id).await
    }
    /// The runs of a thread, newest first.
    async fn search_runs(&self, query: RunQuery, window: Window) -> Result<Page<Run>>;
    /// The runs that are pending, running, or either, with their threads.
    async fn open_runs(&self, status: Option<RunStatus>) -> Result<Vec<(ThreadId, RunId)>>;
    /// Leases runs that are due.
    async fn claim_runs(&self, claim: ClaimRuns) -> Result<ClaimedRuns>;
    /// Leases runs that are due, of each user and assistant no more than may be executed at once.
    async fn claim_runs_within(&self, limits: PerOwner, claim: ClaimRuns) -> Result<ClaimedRuns>;
    /// Reads what users say in a claimed run. Where the project encrypts by itself, that takes as long as its handlers do.
    async fn open_claimed(&self, claimed: ClaimedRun) -> Result<ClaimedRun> {
        Ok(claimed)
    }
    /// Keeps leases alive, and says which of their runs are to go on no longer; a lease that was lost stays lost.
    async fn extend_leases(&self, leases: Vec<Lease>, until: Timestamp) -> Result<Vec<(RunId, Halt)>>;
    /// Ends a run: its row, its thread and its webhook delivery, or none of these. A temporary thread goes with its run.
    /// Says whether other runs wait for the thread.
    async fn finish_run(&self, lease: Lease, ending: Ending) -> Result<bool>;
    /// Gives a run back to the queue before its lease ends.
    async fn requeue_run(&self, lease: Lease, why: GivenBack, now: Timestamp) -> Result<()>;
    /// Takes runs back whose leases ended.
    async fn expire_leases(&self, expire: ExpireLeases) -> Result<ExpiredRuns>;
    /// Ends a pending run, or notes on a running one that it is to stop.
    async fn cancel_run(&self, cancel: CancelRun) -> Result<CancelledRun>;
    /// Why a run is to stop, if somebody asked for it.
    async fn cancel_request(&self, run_id: RunId) -> Result<Option<CancelRequest>>;
    /// Deletes a run and the checkpoints it wrote. Says where it stood, or `None` when there is no such run, or its thread
    /// is none of these.
    async fn delete_run(&self, thread_id: ThreadId, run_id: RunId, within: MetadataFilter)
    -> Result<Option<RunStatus>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_as_they_are_written() {
        for status in [RunStatus::Pending, RunStatus::Running, RunStatus::Timeout] {
            assert_eq!(RunStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(RunStatus::parse("rollback"), None);
    }
}
