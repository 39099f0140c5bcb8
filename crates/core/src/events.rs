//! Kept events: what resumable runs said, for readers that come back, also after a restart.

use async_trait::async_trait;

use crate::{
    ids::{RunId, ThreadId},
    runs::{Lease, Run},
    storage::Result,
    stream::{EventId, StreamEvent},
};

/// The id of an event of a resumable run. It follows from the run, so that it is the same after a restart.
pub fn kept_id(run: &Run, seq: u64) -> EventId {
    EventId { epoch_ms: run.created_at.as_millis(), seq }
}

/// Stored events. They go with their run, or a while after its end.
#[async_trait]
pub trait Events: Send + Sync {
    /// Adds to what a run has said, under the right of the attempt that says it; places count from 1.
    async fn keep_events(&self, lease: Lease, first: u64, events: Vec<StreamEvent>) -> Result<()>;
    /// The events behind a place, with their places, in order. Long ones make the page short. What the project's own handlers
    /// can't decrypt is a lost event.
    async fn kept_events(&self, run_id: RunId, after: u64) -> Result<Vec<(u64, StreamEvent)>>;
    /// The same as they stand in the database: what they say may be encrypted, and no handler is waited for.
    async fn unopened_events(&self, run_id: RunId, after: u64) -> Result<Vec<(u64, StreamEvent)>> {
        self.kept_events(run_id, after).await
    }
    /// The place before the first of a block on the tape of a thread, where a run of event streaming begins to speak.
    async fn begin_block(&self, thread_id: ThreadId) -> Result<u64>;
    /// The place behind which nothing on the tape of a thread can be yet.
    async fn tape_end(&self, thread_id: ThreadId) -> Result<u64>;
    /// The runs of a thread of which something is to be read, in order: those that have begun and go on, and those of which
    /// events behind a place are kept. What users say in them may be encrypted, where it can't be decrypted.
    async fn told_runs(&self, thread_id: ThreadId, after: u64) -> Result<Vec<Run>>;
}
