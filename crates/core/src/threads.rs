//! Threads: a line of state that runs work on, one after the other.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{RunId, ThreadId},
    json::{Object, RawJson},
    page::{Order, Page, Window},
    storage::Result,
    time::Timestamp,
};

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThreadStatus {
    /// Nothing to do.
    Idle,
    /// A run is pending or running. Never stored: it follows from the runs.
    Busy,
    /// Nodes are left to run.
    Interrupted,
    /// The last run failed.
    Error,
}

impl ThreadStatus {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Interrupted => "interrupted",
            Self::Error => "error",
        }
    }
}

/// A thread as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Thread {
    /// Its id.
    pub thread_id: ThreadId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When anything about it last changed.
    pub updated_at: Timestamp,
    /// When its state last changed.
    pub state_updated_at: Timestamp,
    /// Free annotations; runs add `graph_id` and `assistant_id`.
    pub metadata: Object,
    /// Derived from its runs and its head.
    pub status: ThreadStatus,
    /// The config of its last run, without its configurable keys.
    pub config: Object,
    /// The state's values, null until a run ended or the state was updated.
    pub values: Option<RawJson>,
    /// What the last ended run left; absent from the wire until then.
    #[serde(flatten)]
    pub outcome: Option<ThreadOutcome>,
}

/// What the last ended run or state update left on a thread.
#[derive(Clone, Debug, Serialize)]
pub struct ThreadOutcome {
    /// Open interrupts: task id to a list of `{id, value}`.
    pub interrupts: RawJson,
    /// `{"error": class, "message": text}` when the run failed.
    pub error: Option<RawJson>,
}

/// A thread to be made.
#[derive(Clone, Debug)]
pub struct NewThread {
    /// Its id, chosen by the client or made for it.
    pub thread_id: ThreadId,
    /// Its first metadata.
    pub metadata: Object,
    /// The present moment.
    pub now: Timestamp,
}

/// What came of making a thread.
#[derive(Clone, Debug)]
pub enum CreatedThread {
    /// It is new.
    New(Thread),
    /// The id was taken; this is the thread that has it.
    Existing(Thread),
}

/// Which threads to find.
#[derive(Clone, Debug, Default)]
pub struct ThreadQuery {
    /// Only these, when not empty.
    pub ids: Vec<ThreadId>,
    /// Metadata must contain this.
    pub metadata: Object,
    /// Values must contain this.
    pub values: Object,
    /// Only threads with this status.
    pub status: Option<ThreadStatus>,
    /// The column that orders the result.
    pub sort_by: ThreadSort,
    /// The direction of the order.
    pub order: Order,
}

/// What threads can be ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are those of the fields")]
pub enum ThreadSort {
    ThreadId,
    Status,
    CreatedAt,
    #[default]
    UpdatedAt,
    StateUpdatedAt,
}

/// The newest state of a thread, as it was when its last run ended or its state was updated.
#[derive(Clone, Debug)]
pub struct ThreadHead {
    /// Derived from its runs and its head.
    pub status: ThreadStatus,
    /// Its metadata; `graph_id` names the graph that can read its checkpoints.
    pub metadata: Object,
    /// The finished `ThreadState`, if one was saved.
    pub state: Option<SavedState>,
}

/// A `ThreadState` that a graph computed.
#[derive(Clone, Debug)]
pub struct SavedState {
    /// The `ThreadState`, as the API answers it.
    pub state: RawJson,
    /// The revision of the user's code that computed it: `next` and `tasks` depend on it.
    pub revision: String,
}

/// What a run or a state update leaves on its thread.
#[derive(Clone, Debug)]
pub struct ThreadUpdate {
    /// The status once nothing is pending or running; never `Busy`.
    pub status: ThreadStatus,
    /// New values, or none to keep the old ones.
    pub values: Option<RawJson>,
    /// Open interrupts and the failure, if any.
    pub outcome: ThreadOutcome,
    /// The new head, or none when it has to be computed anew.
    pub state: Option<SavedState>,
}

/// What became of a state update's thread row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdatedThread {
    /// Written.
    Done,
    /// There is no such thread.
    Missing,
}

/// Stored threads.
#[async_trait]
pub trait Threads: Send + Sync {
    /// Makes a thread unless its id is taken.
    async fn create_thread(&self, new: NewThread) -> Result<CreatedThread>;
    /// The thread with this id.
    async fn thread(&self, id: ThreadId) -> Result<Option<Thread>>;
    /// The newest state of the thread.
    async fn thread_head(&self, id: ThreadId) -> Result<Option<ThreadHead>>;
    /// The threads that match, in order.
    async fn search_threads(&self, query: ThreadQuery, window: Window) -> Result<Page<Thread>>;
    /// How many threads match.
    async fn count_threads(&self, query: ThreadQuery) -> Result<u64>;
    /// Lays `metadata` over the thread's own, key by key at the top level.
    async fn patch_thread(&self, id: ThreadId, metadata: Object, now: Timestamp) -> Result<Option<Thread>>;
    /// Writes what a state update left.
    async fn update_thread(&self, id: ThreadId, update: ThreadUpdate, now: Timestamp) -> Result<UpdatedThread>;
    /// Deletes the thread with its runs and checkpoints; its webhook deliveries stay. Returns the runs that were
    /// running, whose later writes are refused, or `None` when there is no such thread.
    async fn delete_thread(&self, id: ThreadId) -> Result<Option<Vec<RunId>>>;
}
