//! One transaction on a connection of the pool.
//!
//! Connections may lead to PgBouncer, which gives each transaction another session: nothing here sets, locks or listens
//! beyond its transaction.

use std::{ops::Deref, time::Duration};

use futures_util::future::{BoxFuture, join};
use threadyard_core::storage::{Result, StorageError};
use tokio::time::timeout;

use super::{
    Client, Pool,
    failures::{Done, Failure, failure},
};

/// What is done on a connection.
pub(super) type Work<'c, T> = BoxFuture<'c, Done<T>>;

/// A server that is stopped in the middle of a transaction, or is cut off, must not hold its locks until it comes back:
/// others could not take its runs.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '5s'";

/// So often something is tried that others are in the way of.
const TRIES: u32 = 5;

/// An answer to `ROLLBACK` that takes longer stands behind a statement that waits for somebody.
const ROLLBACK: Duration = Duration::from_secs(1);

/// Why a transaction did not happen.
pub(super) enum Undone {
    /// It was undone.
    Failed(Failure),
    /// Nobody knows whether it happened: the connection broke while it was to.
    Unknown(StorageError),
}

/// Does something in a transaction of its own, again if others were in its way.
///
/// What was undone may be done again whatever it is. What broke in the middle of its commit is left to the caller, who
/// finds out: checkpoints and writes may be saved twice, kept events have their places, and whoever ends a run twice has
/// lost its lease.
pub(super) async fn transact<I: ?Sized + Sync, T: Send>(
    pool: &Pool,
    input: &I,
    work: impl for<'c> Fn(&'c Client, &'c I) -> Work<'c, T>,
) -> Result<T> {
    let mut tries = 0;
    loop {
        tries += 1;
        match run(pool.get().await?, BEGIN, input, &work).await {
            Ok(value) => return Ok(value),
            Err(Undone::Failed(failed)) if failed.passes() && tries < TRIES => {}
            Err(Undone::Failed(failed)) => return Err(failed.into()),
            Err(Undone::Unknown(error)) => return Err(error),
        }
    }
}

/// Does a single statement, again if others were in its way.
pub(super) async fn once<I: ?Sized + Sync, T: Send>(
    pool: &Pool,
    input: &I,
    work: impl for<'c> Fn(&'c Client, &'c I) -> Work<'c, T>,
) -> Result<T> {
    let mut tries = 0;
    loop {
        tries += 1;
        let open = Open(Some(pool.get().await?));
        let outcome = work(&open, input).await;
        // What waits too long goes on waiting there.
        if !matches!(outcome, Err(Failure::Found(StorageError::Unavailable(_)))) {
            open.close();
        }
        match outcome {
            Ok(value) => return Ok(value),
            Err(failed) if failed.passes() && tries < TRIES => {}
            Err(failed) => return Err(failed.into()),
        }
    }
}

/// Does something between `opening` and a commit. The first statements travel together with `opening`.
pub(super) async fn run<I: ?Sized + Sync, T: Send>(
    connection: Client,
    opening: &str,
    input: &I,
    work: impl for<'c> FnOnce(&'c Client, &'c I) -> Work<'c, T>,
) -> Result<T, Undone> {
    let open = Open(Some(connection));
    let (begun, outcome) = join(open.batch_execute(opening), work(&open, input)).await;
    match begun.map_err(Failure::from).and(outcome) {
        Ok(value) => {
            open.batch_execute("COMMIT").await.map_err(|error| Undone::Unknown(failure(&error)))?;
            open.close();
            Ok(value)
        }
        Err(failed) => {
            if let Ok(Ok(())) = timeout(ROLLBACK, open.batch_execute("ROLLBACK")).await {
                open.close();
            }
            Err(Undone::Failed(failed))
        }
    }
}

/// A connection in use. One that is dropped in the middle of something does not go back to the pool.
struct Open(Option<Client>);

impl Open {
    /// Gives the connection back.
    fn close(mut self) {
        self.0.take();
    }
}

impl Deref for Open {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.0.as_ref().expect("it is there until it is closed")
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            client.end();
        }
    }
}
