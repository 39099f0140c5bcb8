//! What PostgreSQL's failures mean: to the engine, and to whoever may try again.

use std::{error::Error as _, io};

use threadyard_core::storage::StorageError;
use tokio_postgres::{Error, error::SqlState};

/// A failure inside an operation: PostgreSQL's, or one that the operation itself found.
#[derive(Debug)]
pub(super) enum Failure {
    Postgres(Error),
    Found(StorageError),
}

/// The outcome of an operation on a connection.
pub(super) type Done<T> = Result<T, Failure>;

impl Failure {
    /// Whether the same may succeed when it is done again at once: others were in its way, or the connection was an old
    /// one.
    pub(super) fn passes(&self) -> bool {
        let Self::Postgres(error) = self else { return false };
        match error.code() {
            Some(code) => {
                [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code)
                    // What travels with a statement that is outdated fails before that is known.
                    || *code == SqlState::IN_FAILED_SQL_TRANSACTION
                    || error.as_db_error().is_some_and(|it| it.constraint() == Some("one_running"))
                    || is_shutdown(code)
                    || is_outdated(error)
            }
            None => is_broken(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Found(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Found(StorageError::Bug(error.to_string()))
    }
}

impl From<Failure> for StorageError {
    fn from(failed: Failure) -> Self {
        match failed {
            Failure::Postgres(error) => failure(&error),
            Failure::Found(error) => error,
        }
    }
}

/// What PostgreSQL's failures mean to the engine.
pub(super) fn failure(error: &Error) -> StorageError {
    let passes = match error.code() {
        Some(code) => is_passing(code),
        None => is_broken(error),
    };
    if passes { StorageError::Unavailable(said(error)) } else { StorageError::Bug(said(error)) }
}

/// What is wrong, of which the driver's own words leave out the better half.
pub(super) fn said(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => format!("{} ({})", said.message(), said.code().code()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

fn is_broken(error: &Error) -> bool {
    error.is_closed() || error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).is_some()
}

/// A statement was prepared when its table looked different.
pub(super) fn is_outdated(error: &Error) -> bool {
    let said = error.as_db_error().filter(|said| *said.code() == SqlState::FEATURE_NOT_SUPPORTED);
    said.is_some_and(|said| said.message().contains("cached plan"))
}

/// The server stops, starts, or ends this connection.
fn is_shutdown(code: &SqlState) -> bool {
    code.code().starts_with("57P") || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
}

fn is_passing(code: &SqlState) -> bool {
    // 08: connections. 53: resources, such as a full disk. 58: the machine.
    let class = &code.code()[..2];
    ["08", "53", "58"].contains(&class)
        || is_shutdown(code)
        || [
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::QUERY_CANCELED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
        ]
        .contains(code)
}
