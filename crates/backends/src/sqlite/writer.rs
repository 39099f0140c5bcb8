//! The one thread that writes: it takes what is queued, does it in one transaction, and answers after the commit.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    thread,
};

use threadyard_core::{checkpoints::Committed, storage::StorageError};
use tokio::sync::oneshot;

use super::{Connection, Done, Failure};

/// The most operations that share a commit.
const GROUP: usize = 512;

const BEGIN: &str = "BEGIN IMMEDIATE";

/// One operation: does its work unless there is no transaction to do it in, and hands back what tells the caller about
/// the commit.
type Operation = Box<dyn FnOnce(Result<Turn<'_>, StorageError>) -> Answer + Send>;
/// Tells the caller: the error is that of the commit, which spoils whatever the operation itself answered.
type Answer = Box<dyn FnOnce(Result<(), StorageError>) + Send>;

/// An operation's place in a transaction.
struct Turn<'a> {
    connection: &'a Connection,
    /// Whether nothing was done in it yet.
    is_first: bool,
}

pub(super) struct Writer {
    /// `None` only while being dropped.
    operations: Option<mpsc::Sender<Operation>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let (operations, queue) = mpsc::channel();
        let thread = thread::Builder::new().name("sqlite-writer".into()).spawn(move || serve(&connection, &queue))?;
        Ok(Self { operations: Some(operations), thread: Some(thread) })
    }

    /// Queues an operation; its place in the order of writes is taken when this returns.
    pub(super) fn submit<T, F>(&self, operation: F) -> oneshot::Receiver<Result<T, StorageError>>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Done<T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let operation: Operation = Box::new(move |turn| {
            let outcome = turn.and_then(|turn| isolated(&turn, operation).map_err(StorageError::from));
            Box::new(move |commit| {
                let _ = sender.send(commit.and(outcome));
            })
        });
        // A closed queue drops the sender of the answer, and the caller hears of it there.
        if let Some(operations) = &self.operations {
            let _ = operations.send(operation);
        }
        receiver
    }

    /// Does an operation and waits for its commit.
    pub(super) async fn write<T, F>(&self, operation: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Done<T> + Send + 'static,
    {
        self.submit(operation).await.unwrap_or_else(|_| Err(stopped()))
    }

    /// As `write`, but in the shape of a promise.
    pub(super) fn promise<F>(&self, operation: F) -> Committed
    where
        F: FnOnce(&Connection) -> Done<()> + Send + 'static,
    {
        let answer = self.submit(operation);
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(stopped())) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.operations.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn stopped() -> StorageError {
    StorageError::Unavailable("the database is closed".into())
}

fn serve(connection: &Connection, queue: &mpsc::Receiver<Operation>) {
    let mut answers = Vec::new();
    while let Ok(first) = queue.recv() {
        if let Err(error) = execute(connection, BEGIN) {
            let refused = super::failure(&error);
            // Who waits behind it would wait as long again to hear the same.
            for operation in std::iter::once(first).chain(queue.try_iter()) {
                operation(Err(refused.clone()))(Ok(()));
            }
            continue;
        }
        answers.push(first(Ok(Turn { connection, is_first: true })));
        // A failure such as a full disk makes SQLite undo the whole transaction, which ends the group.
        while answers.len() < GROUP && !connection.is_autocommit() {
            let Ok(next) = queue.try_recv() else { break };
            answers.push(next(Ok(Turn { connection, is_first: false })));
        }
        let commit = commit(connection);
        for answer in answers.drain(..) {
            answer(commit.clone());
        }
    }
    // A database at rest is one file. What can't be moved now stays in the log, where the next start finds it.
    if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        tracing::warn!(%error, "the write-ahead log could not be moved into the database");
    }
}

fn commit(connection: &Connection) -> Result<(), StorageError> {
    if connection.is_autocommit() {
        return Err(StorageError::Unavailable("the transaction was undone by the database".into()));
    }
    execute(connection, "COMMIT").map_err(|error| {
        let _ = execute(connection, "ROLLBACK");
        super::failure(&error)
    })
}

/// Runs an operation so that its failure undoes it and nothing else of the group.
fn isolated<T>(turn: &Turn<'_>, operation: impl FnOnce(&Connection) -> Done<T>) -> Done<T> {
    let connection = turn.connection;
    // The first one needs no savepoint, which costs a copy of each page that is changed.
    if !turn.is_first {
        execute(connection, "SAVEPOINT operation")?;
    }
    // A panic must not take the only writer with it, and with it every later write.
    let outcome = catch_unwind(AssertUnwindSafe(|| operation(connection)));
    match outcome.unwrap_or_else(|_| Err(StorageError::Bug("a write panicked; see the log".into()).into())) {
        Ok(value) => {
            if !turn.is_first {
                execute(connection, "RELEASE operation")?;
            }
            Ok(value)
        }
        Err(failed) => {
            // After some failures, such as a full disk, SQLite has undone the whole transaction already.
            let _ = if turn.is_first {
                execute(connection, "ROLLBACK").and_then(|()| execute(connection, BEGIN))
            } else {
                connection.execute_batch("ROLLBACK TO operation; RELEASE operation")
            };
            Err(failed)
        }
    }
}

/// Executes a statement that is needed all the time.
fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Found(StorageError::Bug(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::Cipher;

    #[tokio::test]
    async fn a_write_that_panics_fails_alone() {
        let database = rusqlite::Connection::open_in_memory().unwrap();
        let connection = Connection::new(database, Cipher::none());
        connection.execute_batch("CREATE TABLE t (x)").unwrap();
        let writer = Writer::start(connection).unwrap();
        let insert = |it: &Connection| Ok(it.execute("INSERT INTO t VALUES (1)", [])?);
        let panics = writer.write(move |it| {
            insert(it)?;
            if it.is_autocommit() { Ok(()) } else { panic!("on purpose") }
        });
        assert!(matches!(panics.await, Err(StorageError::Bug(_))));
        writer.write(insert).await.unwrap();
        let count = |it: &Connection| Ok(it.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))?);
        assert_eq!(writer.write(count).await, Ok(1));
    }
}
