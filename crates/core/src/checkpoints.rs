//! Checkpoints: what LangGraph saves after each superstep. The host stores and finds them, and never looks inside.

use std::{future::Future, pin::Pin};

use async_trait::async_trait;
use bytes::Bytes;

use serde::{Deserialize, Serialize};

use crate::{json::Object, runs::Lease, storage::Result};

/// Resolves when the operation it stands for has committed. The operation's place in the order of writes is taken when
/// the method returns, not when this is polled.
pub type Committed = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Who writes a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A run, whose lease is checked with the write.
    Run(Lease),
    /// A call outside any run, such as an update of the state.
    Call,
}

/// A saved state with everything that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointTuple {
    /// The thread, which graph code may name as it likes.
    pub thread: String,
    /// Empty, or the path of the subgraph.
    pub ns: String,
    /// The checkpoint's id, which sorts by age.
    pub id: String,
    /// The checkpoint it followed.
    pub parent: Option<String>,
    /// JSON: the checkpoint without the values that are blobs.
    pub checkpoint: Bytes,
    /// JSON: the checkpoint's metadata.
    pub metadata: Bytes,
    /// Channel values, in the order of their channels.
    pub blobs: Vec<Blob>,
    /// Pending writes, ordered by task path, task and index.
    pub writes: Vec<Write>,
}

/// The value of a channel at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The channel.
    pub channel: String,
    /// The version, unique over all forks of the thread.
    pub version: String,
    /// The serializer's tag.
    pub kind: String,
    /// The serialized value.
    pub data: Bytes,
}

/// Something a task wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The task.
    pub task: String,
    /// Where the task stands in its superstep.
    pub path: String,
    /// Its place among the task's writes; negative for errors, interrupts and the like.
    pub index: i64,
    /// The channel written to.
    pub channel: String,
    /// The serializer's tag.
    pub kind: String,
    /// The serialized value.
    pub data: Bytes,
}

/// A checkpoint to be saved.
#[derive(Clone, Debug)]
pub struct PutCheckpoint {
    /// The thread.
    pub thread: String,
    /// The namespace.
    pub ns: String,
    /// The checkpoint's id.
    pub id: String,
    /// The checkpoint it follows.
    pub parent: Option<String>,
    /// JSON: the checkpoint without the values that are blobs.
    pub checkpoint: Bytes,
    /// JSON: the checkpoint's metadata.
    pub metadata: Bytes,
    /// The channel values that are new.
    pub blobs: Vec<Blob>,
}

/// Writes of one task to be saved.
#[derive(Clone, Debug)]
pub struct PutWrites {
    /// The thread.
    pub thread: String,
    /// The namespace.
    pub ns: String,
    /// The checkpoint the task started from.
    pub id: String,
    /// The writes. Those with a negative index replace what is there, the others keep the first.
    pub writes: Vec<Write>,
}

/// Which checkpoints to list.
#[derive(Clone, Debug, Default)]
pub struct CheckpointQuery {
    /// Only this thread.
    pub thread: Option<String>,
    /// Only this namespace.
    pub ns: Option<String>,
    /// Metadata must contain this.
    pub filter: Object,
    /// Only checkpoints older than this one.
    pub before: Option<String>,
    /// How many at most.
    pub limit: Option<u32>,
}

/// What to keep of a thread's checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PruneStrategy {
    /// The newest of each namespace.
    KeepLatest,
    /// Nothing.
    Delete,
}

/// Stored checkpoints.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// Saves a checkpoint, or replaces it.
    fn put_checkpoint(&self, writer: Writer, put: PutCheckpoint) -> Committed;
    /// Saves writes of a task.
    fn put_writes(&self, writer: Writer, put: PutWrites) -> Committed;
    /// The checkpoint with this id, or the newest.
    async fn checkpoint(&self, thread: &str, ns: &str, id: Option<&str>) -> Result<Option<CheckpointTuple>>;
    /// The checkpoints that match, newest first.
    async fn list_checkpoints(&self, query: CheckpointQuery) -> Result<Vec<CheckpointTuple>>;
    /// Deletes all checkpoints of a thread.
    async fn delete_checkpoints(&self, thread: &str) -> Result<()>;
    /// Deletes the checkpoints whose metadata name these runs as `run_id`.
    async fn delete_run_checkpoints(&self, runs: Vec<String>) -> Result<()>;
    /// Copies all checkpoints of one thread to another.
    async fn copy_checkpoints(&self, source: &str, target: &str) -> Result<()>;
    /// Deletes what the strategy does not keep.
    async fn prune_checkpoints(&self, threads: Vec<String>, strategy: PruneStrategy) -> Result<()>;
}
