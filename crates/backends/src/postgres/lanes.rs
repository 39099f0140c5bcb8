//! The lanes that write: each takes what is queued, does it in one transaction, and answers after the commit.
//!
//! What concerns one thread goes through one lane, and is done in the order in which it was submitted. What concerns
//! different threads is done side by side: its statements travel together. Should anything of a group fail, the group is
//! undone and each of its operations is done again in a transaction of its own, so that none suffers from another.

use std::{
    panic::AssertUnwindSafe,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use threadyard_core::{checkpoints::Committed, storage::StorageError};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{
    Client, Pool,
    failures::{Done, Failure},
    stopped,
    transaction::{self, Undone, Work, once, transact},
};

/// The most operations that share a commit.
const GROUP: usize = 128;
/// Two groups may stand in each other's way, and each of their operations alone does not: a group does not wait long.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '200ms'; SET LOCAL idle_in_transaction_session_timeout = '5s'";

/// Who waits longer for others' locks keeps the lane from everybody behind.
const STUCK: Duration = Duration::from_secs(10);

/// The operations that one lane has to do.
type Queue = mpsc::UnboundedReceiver<Box<dyn Operation>>;

pub(super) struct Lanes(Vec<mpsc::UnboundedSender<Box<dyn Operation>>>);

impl Lanes {
    /// They end when nobody can submit anything any more and everything is done.
    pub(super) fn start(count: usize, pool: &Pool) -> Self {
        let tasks = TaskTracker::new();
        let start = |_| {
            let (operations, queue) = mpsc::unbounded_channel();
            tasks.spawn(serve(pool.clone(), queue));
            operations
        };
        Self((0..count).map(start).collect())
    }

    /// Queues an operation; its place in the order of writes with this key is taken when this returns. It may be done
    /// several times, and all but the last are undone. One that has lost its lease finds that before it writes.
    fn submit<I, T, F>(&self, place: Place, input: I, work: F) -> oneshot::Receiver<Result<T, StorageError>>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'c> Fn(&'c Client, &'c I) -> Work<'c, T> + Send + Sync + 'static,
    {
        let (answer, receiver) = oneshot::channel();
        let operation = Submitted { place, input, work, outcome: Mutex::new(None), answer };
        let lane = place.key % self.0.len() as u64;
        if let Some(operations) = usize::try_from(lane).ok().and_then(|lane| self.0.get(lane)) {
            // A closed queue drops the sender of the answer, and the caller hears of it there.
            let _ = operations.send(Box::new(operation));
        }
        receiver
    }

    /// Does an operation and waits for its commit.
    pub(super) async fn write<I, T, F>(&self, key: u64, input: I, work: F) -> Result<T, StorageError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'c> Fn(&'c Client, &'c I) -> Work<'c, T> + Send + Sync + 'static,
    {
        self.submit(Place { key, alone: Alone::Transaction }, input, work).await.unwrap_or_else(|_| Err(stopped()))
    }

    /// As `write`, for what writes with a single statement.
    pub(super) async fn write_at_once<I, T, F>(&self, key: u64, input: I, work: F) -> Result<T, StorageError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
        F: for<'c> Fn(&'c Client, &'c I) -> Work<'c, T> + Send + Sync + 'static,
    {
        self.submit(Place { key, alone: Alone::Statement }, input, work).await.unwrap_or_else(|_| Err(stopped()))
    }

    /// As `write`, but in the shape of a promise.
    pub(super) fn promise<I, F>(&self, place: Place, input: I, work: F) -> Committed
    where
        I: Send + Sync + 'static,
        F: for<'c> Fn(&'c Client, &'c I) -> Work<'c, ()> + Send + Sync + 'static,
    {
        let answer = self.submit(place, input, work);
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(stopped())) })
    }
}

/// What an operation is kept in order with, and what it needs when it is done alone.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) key: u64,
    pub(super) alone: Alone,
}

/// What makes an operation happen completely or not at all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Alone {
    /// It is a single statement. Done twice, it changes no more than once.
    Statement,
    /// It is several.
    Transaction,
}

/// What a lane does, whatever it is.
trait Operation: Send + Sync {
    fn place(&self) -> Place;
    /// Does it, and keeps its outcome.
    fn attempt<'c>(&'c self, client: &'c Client) -> BoxFuture<'c, Done<()>>;
    /// Tells the caller: the error is that of the transaction, which spoils whatever came of the operation itself.
    fn answer(self: Box<Self>, transaction: Result<(), StorageError>);
}

struct Submitted<I, T, F> {
    place: Place,
    input: I,
    work: F,
    outcome: Mutex<Option<Result<T, StorageError>>>,
    answer: oneshot::Sender<Result<T, StorageError>>,
}

impl<I, T, F> Operation for Submitted<I, T, F>
where
    I: Send + Sync,
    T: Send,
    F: for<'c> Fn(&'c Client, &'c I) -> Work<'c, T> + Send + Sync,
{
    fn place(&self) -> Place {
        self.place
    }

    fn attempt<'c>(&'c self, client: &'c Client) -> BoxFuture<'c, Done<()>> {
        Box::pin(async move {
            // A panic must not take the lane with it, and with it every later write.
            let work = AssertUnwindSafe((self.work)(client, &self.input)).catch_unwind();
            let late =
                |_| Err(StorageError::Unavailable("somebody else has locked what was to be written".into()).into());
            let panicked = |_| Err(StorageError::Bug("a write panicked; see the log".into()).into());
            let outcome = timeout(STUCK, work).await.unwrap_or_else(|elapsed| Ok(late(elapsed)));
            let outcome = match outcome.unwrap_or_else(panicked) {
                Ok(value) => Ok(value),
                Err(Failure::Found(StorageError::LeaseLost)) => Err(StorageError::LeaseLost),
                Err(failed) => return Err(failed),
            };
            *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            Ok(())
        })
    }

    fn answer(self: Box<Self>, transaction: Result<(), StorageError>) {
        let outcome = self.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        let _ = self.answer.send(transaction.and_then(|()| outcome.unwrap_or_else(|| Err(stopped()))));
    }
}

async fn serve(pool: Pool, mut queue: Queue) {
    while let Some(first) = queue.recv().await {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        let answered = if group.len() > 1 { together(&pool, group).await } else { one_by_one(&pool, group).await };
        if let Err(refused) = answered {
            // Who waits behind would wait as long again to hear the same.
            while let Ok(operation) = queue.try_recv() {
                operation.answer(Err(refused.clone()));
            }
        }
    }
}

/// Does a group in one transaction, or else one by one. Fails when the database can't be reached.
async fn together(pool: &Pool, group: Vec<Box<dyn Operation>>) -> Result<(), StorageError> {
    let connection = match pool.get().await {
        Ok(connection) => connection,
        Err(refused) => return Err(refuse(group, refused)),
    };
    match transaction::run(connection, BEGIN, &*group, side_by_side).await {
        Ok(()) => {
            answer(group, &Ok(()));
            Ok(())
        }
        Err(Undone::Failed(_)) => one_by_one(pool, group).await,
        Err(Undone::Unknown(error)) => {
            answer(group, &Err(error));
            Ok(())
        }
    }
}

fn side_by_side<'c>(client: &'c Client, group: &'c [Box<dyn Operation>]) -> Work<'c, ()> {
    let mut keys: Vec<_> = group.iter().map(|operation| operation.place().key).collect();
    keys.sort_unstable();
    keys.dedup();
    let one_after_the_other = move |key| async move {
        for operation in group.iter().filter(|operation| operation.place().key == key) {
            operation.attempt(client).await?;
        }
        Ok(())
    };
    Box::pin(join_all(keys.into_iter().map(one_after_the_other)).map(|outcomes| outcomes.into_iter().collect()))
}

async fn one_by_one(pool: &Pool, group: Vec<Box<dyn Operation>>) -> Result<(), StorageError> {
    let mut group = group.into_iter();
    while let Some(operation) = group.next() {
        let outcome = match operation.place().alone {
            Alone::Statement => once(pool, &operation, |client, operation| operation.attempt(client)).await,
            Alone::Transaction => transact(pool, &operation, |client, operation| operation.attempt(client)).await,
        };
        let unavailable = matches!(outcome, Err(StorageError::Unavailable(_)));
        operation.answer(outcome);
        if unavailable && let Err(refused) = pool.get().await {
            return Err(refuse(group.collect(), refused));
        }
    }
    Ok(())
}

fn answer(group: Vec<Box<dyn Operation>>, transaction: &Result<(), StorageError>) {
    for operation in group {
        operation.answer(transaction.clone());
    }
}

fn refuse(group: Vec<Box<dyn Operation>>, refused: StorageError) -> StorageError {
    answer(group, &Err(refused.clone()));
    refused
}
