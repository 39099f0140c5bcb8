//! Threads: a line of state that runs work on, one after the other.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{RunId, ThreadId},
    json::{Object, RawJson},
    metadata_filter::MetadataFilter,
    page::{Order, Page, Window},
    retention::ThreadTtl,
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
    /// The state's values.
    #[serde(skip_serializing_if = "ThreadValues::are_unknown")]
    pub values: ThreadValues,
    /// What the last ended run left; absent from the wire until then.
    #[serde(flatten)]
    pub outcome: Option<ThreadOutcome>,
}

/// The values of a thread's state, as far as its row knows them.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum ThreadValues {
    /// No run has ended and the state was not updated.
    None,
    /// The thread is a copy on which nothing has run; its checkpoints know. Absent from the wire.
    Unknown,
    /// As the last ended run or state update left them.
    Known(RawJson),
}

impl ThreadValues {
    fn are_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// The values, when they are known.
    pub fn known(self) -> Option<RawJson> {
        match self {
            Self::Known(values) => Some(values),
            Self::None | Self::Unknown => None,
        }
    }
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
    /// How long it is kept; for ever when nobody said.
    pub ttl: Option<ThreadTtl>,
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
    /// Only those that whoever asks may see.
    pub visible: MetadataFilter,
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

/// A change of a thread's row; what is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct ThreadPatch {
    /// Only if it is one of these; others are as good as missing.
    pub within: MetadataFilter,
    /// Laid over the thread's metadata, key by key at the top level.
    pub metadata: Object,
    /// How long it is kept from now on.
    pub ttl: Option<ThreadTtl>,
}

/// A thread to be made with the metadata and checkpoints of another, but without its runs.
#[derive(Clone, Debug)]
pub struct CopyThread {
    /// The thread that is copied.
    pub source: ThreadId,
    /// Only if it is one of these; others are as good as missing.
    pub within: MetadataFilter,
    /// The id of the copy.
    pub target: ThreadId,
    /// Laid over the copy's metadata.
    pub metadata: Object,
    /// The present moment.
    pub now: Timestamp,
}

/// What the checkpoints of a thread occupy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadStorage {
    /// Checkpoints with their metadata.
    pub checkpoints: Usage,
    /// Values that are kept beside their checkpoints, by channel, in the order of their names.
    pub channels: Vec<(String, Usage)>,
    /// Writes of tasks.
    pub pending_writes: Usage,
}

/// Rows and what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// How many rows.
    pub count: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// The open runs that went with a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletedThread {
    /// These never started.
    pub pending: Vec<RunId>,
    /// These go on somewhere; their later writes are refused.
    pub running: Vec<RunId>,
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
    /// Changes a thread's row.
    async fn patch_thread(&self, id: ThreadId, patch: ThreadPatch, now: Timestamp) -> Result<Option<Thread>>;
    /// Makes a copy of a thread.
    async fn copy_thread(&self, copy: CopyThread) -> Result<Option<Thread>>;
    /// What the checkpoints of a thread occupy.
    async fn thread_storage(&self, id: ThreadId) -> Result<Option<ThreadStorage>>;
    /// Writes what a state update left, if the thread is one of these.
    async fn update_thread(
        &self,
        id: ThreadId,
        within: MetadataFilter,
        update: ThreadUpdate,
        now: Timestamp,
    ) -> Result<UpdatedThread>;
    /// Deletes the thread with its runs and checkpoints; its webhook deliveries stay. `None`: there is no such thread,
    /// or it is none of these.
    async fn delete_thread(&self, id: ThreadId, within: MetadataFilter) -> Result<Option<DeletedThread>>;
}
