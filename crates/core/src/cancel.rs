//! Stopping runs before their end.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{RunId, ThreadId},
    metadata_filter::MetadataFilter,
    runs::{EndStatus, Ending, RunError},
    time::Timestamp,
};

/// Why a run is to stop before its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// Keep or undo what it did.
    pub action: CancelAction,
    /// Who wants it and why, for the record.
    pub reason: String,
    /// The same in a word.
    #[serde(default)]
    pub cause: CancelCause,
}

/// What makes a run stop before its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CancelCause {
    /// Somebody asked for it.
    #[default]
    User,
    /// This run took its place on the thread.
    Superseded(RunId),
    /// The client that waited for it has gone.
    Disconnect,
}

impl CancelCause {
    /// The word in a webhook.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Superseded(_) => "superseded",
            Self::Disconnect => "disconnect",
        }
    }
}

/// What to do with the work of a cancelled run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CancelAction {
    /// Keep it.
    Interrupt,
    /// Undo it and forget the run.
    Rollback,
}

impl CancelAction {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupt",
            Self::Rollback => "rollback",
        }
    }
}

/// A run to be stopped.
#[derive(Clone, Debug)]
pub struct CancelRun {
    /// Its thread.
    pub thread_id: ThreadId,
    /// The run.
    pub run_id: RunId,
    /// Only if its thread is one of these; others are as good as missing.
    pub within: MetadataFilter,
    /// How and why.
    pub request: CancelRequest,
    /// The present moment.
    pub now: Timestamp,
}

/// What came of asking a run to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelledRun {
    /// There is no such run on this thread.
    Missing,
    /// It has already ended.
    Finished,
    /// It was pending and has ended in this transaction.
    Ended,
    /// It is running; the request is on its row, and its holder is to be signalled.
    Stopping,
}

impl CancelRequest {
    /// How a run ends that was stopped for this.
    pub fn ending(&self, at: Timestamp) -> Ending {
        let (status, class) = match self.action {
            CancelAction::Interrupt => (EndStatus::Interrupted, "UserInterrupt"),
            CancelAction::Rollback => (EndStatus::Rollback, "UserRollback"),
        };
        let error = RunError { error: class.into(), message: self.reason.clone() };
        Ending { status, error: Some(error), cause: Some(self.cause), values: None, thread: None, at, unsealed: false }
    }
}
