//! The one domain error: what a use case can answer besides success.

use std::time::Duration;

use threadyard_core::{
    access::AccessError,
    limits::QueueFull,
    runtime::{GraphError, RuntimeError},
    storage::StorageError,
};

/// Why a use case did not happen. The server's error table gives each variant its HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The thing that was named does not exist.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The request has a shape or a value that is never valid.
    #[error("{0}")]
    Invalid(String),
    /// The request is well formed, but makes no sense here.
    #[error("{0}")]
    Refused(String),
    /// A label of a store namespace is empty or has a period.
    #[error("namespace label `{0}` must be a non-empty text without periods")]
    BadLabel(String),
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// Whoever decides about access refused it, with an HTTP status of its choice.
    #[error("{detail}")]
    Denied {
        /// The status.
        status: u16,
        /// Why, for the caller.
        detail: String,
        /// Further headers of the answer, by name.
        headers: Vec<(String, String)>,
    },
    /// There is too much of it for now.
    #[error("{why}")]
    TooMany {
        /// Of what.
        why: String,
        /// When to ask again.
        retry_after: Duration,
    },
    /// What was sent is larger than what is read.
    #[error("{0}")]
    TooLarge(String),
    /// It was there, and is not kept any more.
    #[error("{0}")]
    Gone(String),
    /// It exists already, or is busy.
    #[error("{0}")]
    Conflict(String),
    /// The server can't do this yet.
    #[error("{0} is not supported yet; see docs/COMPATIBILITY.md")]
    Unsupported(String),
    /// The graph could not be loaded.
    #[error("graph `{graph}` could not be loaded: {}: {}", error.error, error.message)]
    BrokenGraph {
        /// The graph.
        graph: String,
        /// What loading it raised.
        error: GraphError,
    },
    /// The graph raised while it was asked something.
    #[error("{}: {}", .0.error, .0.message)]
    Raised(GraphError),
    /// Something that is needed can't be reached now; the same request may succeed later.
    #[error("{0}")]
    Unavailable(String),
    /// The project's own encryption failed. The text holds nothing of the data.
    #[error("{0}")]
    Sealing(String),
    /// A bug or a corrupt row. The text is for the log, not for clients.
    #[error("{0}")]
    Internal(String),
}

/// The outcome of a use case.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<AccessError> for Error {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Refused { status, detail, headers } => Self::Denied { status, detail, headers },
            AccessError::Unavailable(_) => Self::Unavailable(error.to_string()),
            AccessError::Failed(_) => Self::Internal(error.to_string()),
        }
    }
}

/// So long a client waits that was refused since too much waits already.
const QUEUES_MOVE_WITHIN: Duration = Duration::from_secs(5);

impl From<QueueFull> for Error {
    fn from(full: QueueFull) -> Self {
        Self::TooMany { why: full.to_string(), retry_after: QUEUES_MOVE_WITHIN }
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unavailable(why) => Self::Unavailable(why),
            StorageError::LeaseLost => Self::Conflict(error.to_string()),
            StorageError::Unsupported(why) => Self::Refused(why),
            StorageError::Sealing(_) => Self::Sealing(error.to_string()),
            StorageError::Corrupt { .. } | StorageError::Bug(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<RuntimeError> for Error {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::BrokenGraph { graph, error } => Self::BrokenGraph { graph, error },
            RuntimeError::UnknownGraph(_) | RuntimeError::Refused { status: 404, .. } => Self::NotFound("graph"),
            RuntimeError::Refused { error, .. } => Self::Refused(error.message),
            RuntimeError::Raised(error) => Self::Raised(error),
            RuntimeError::Storage(error) => error.into(),
            RuntimeError::WorkerLost(_)
            | RuntimeError::SharedWorkerLost(_)
            | RuntimeError::Displaced
            | RuntimeError::Unavailable(_) => Self::Unavailable(error.to_string()),
        }
    }
}
