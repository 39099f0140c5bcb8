//! The order of puts: each takes its place when it is asked for, and is encrypted beside those before it.

use std::{
    collections::HashMap,
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
    thread: String,
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
        let queued = Queued { writer, thread: thread.to_owned(), sealed: self.tasks.spawn(sealing), committed };
        // A lane ends with the process.
        drop(lane.send(queued));
        Box::pin(async move { outcome.await.unwrap_or_else(|_| Err(broken_off())) })
    }
}

async fn put_all(inner: Arc<dyn Storage>, mut queue: mpsc::UnboundedReceiver<Queued>, tasks: TaskTracker) {
    let mut gaps = Gaps::default();
    while let Some(Queued { writer, thread, sealed, committed }) = queue.recv().await {
        let put = sealed.await.unwrap_or_else(|_| Err(broken_off()));
        let commit = match gaps.behind(writer, thread, put) {
            Ok(Put::Checkpoint(put)) => inner.put_checkpoint(writer, put),
            Ok(Put::Writes(put)) => inner.put_writes(writer, put),
            Err(error) => Box::pin(async { Err(error) }),
        };
        // The next one has its place behind this one already, and need not wait for the commit.
        tasks.spawn(async move { drop(committed.send(commit.await)) });
    }
}

/// Of each thread, the run of which something is missing, and why. A checkpoint holds what has changed since the one before,
/// so that nothing of that run may be stored behind the gap. Its next attempt begins with what was stored.
#[derive(Default)]
struct Gaps(HashMap<String, (Writer, StorageError)>);

impl Gaps {
    fn behind(&mut self, writer: Writer, thread: String, put: Result<Put>) -> Result<Put> {
        if writer == Writer::Call {
            return put;
        }
        match self.0.get(&thread) {
            Some((broken, error)) if *broken == writer => return Err(error.clone()),
            Some(_) => drop(self.0.remove(&thread)),
            None => {}
        }
        if let Err(error) = &put {
            self.0.insert(thread, (writer, error.clone()));
        }
        put
    }
}

fn broken_off() -> StorageError {
    StorageError::Unavailable("what was to be encrypted broke off".into())
}
