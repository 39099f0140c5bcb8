//! The order of puts: each takes its place when it is asked for, and is encrypted beside those before it.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use threadyard_core::{
    checkpoints::{Committed, PutCheckpoint, PutWrites, Writer},
    storage::{Result, Storage, StorageError},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

/// Slow handlers hold up the threads of one lane, and no others.
const LANES: u64 = 64;

/// What is to be put.
pub(super) enum Put {
    Checkpoint(PutCheckpoint),
    Writes(PutWrites),
}

struct Queued {
    writer: Writer,
    sealed: JoinHandle<Result<Put>>,
    committed: oneshot::Sender<Result<()>>,
}

/// Puts of one thread go through one of them.
pub(super) struct Lanes {
    lanes: Vec<mpsc::UnboundedSender<Queued>>,
    tasks: TaskTracker,
}

impl Lanes {
    pub(super) fn new(inner: &Arc<dyn Storage>) -> Self {
        let tasks = TaskTracker::new();
        let lane = |_| {
            let (lane, queue) = mpsc::unbounded_channel();
            tasks.spawn(put_all(inner.clone(), queue, tasks.clone()));
            lane
        };
        Self { lanes: (0..LANES).map(lane).collect(), tasks }
    }

    /// Has something encrypted, and put behind what was asked for before.
    pub(super) fn put(
        &self,
        writer: Writer,
        thread: &str,
        sealing: impl Future<Output = Result<Put>> + Send + 'static,
    ) -> Committed {
        let mut hasher = DefaultHasher::new();
        thread.hash(&mut hasher);
        let lane = &self.lanes[usize::try_from(hasher.finish() % LANES).unwrap_or_default()];
        let (committed, outcome) = oneshot::channel();
        let queued = Queued { writer, sealed: self.tasks.spawn(sealing), committed };
        // A lane ends with the process.
        drop(lane.send(queued));
        Box::pin(async move { outcome.await.unwrap_or_else(|_| Err(broken_off())) })
    }
}

async fn put_all(inner: Arc<dyn Storage>, mut queue: mpsc::UnboundedReceiver<Queued>, tasks: TaskTracker) {
    while let Some(Queued { writer, sealed, committed }) = queue.recv().await {
        let put = sealed.await.unwrap_or_else(|_| Err(broken_off()));
        let commit = match put {
            Ok(Put::Checkpoint(put)) => inner.put_checkpoint(writer, put),
            Ok(Put::Writes(put)) => inner.put_writes(writer, put),
            Err(error) => Box::pin(async { Err(error) }),
        };
        // The next one has its place behind this one already, and need not wait for the commit.
        tasks.spawn(async move { drop(committed.send(commit.await)) });
    }
}

fn broken_off() -> StorageError {
    StorageError::Unavailable("what was to be encrypted broke off".into())
}
