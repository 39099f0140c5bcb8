//! The order of puts: those of one thread take their places in the order in which they were asked for, and are encrypted
//! side by side. Threads don't wait for each other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use threadyard_core::{
    checkpoints::{Committed, PutCheckpoint, PutWrites, Writer},
    storage::{Result, Storage, StorageError},
};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// What is to be put.
pub(super) enum Put {
    Checkpoint(PutCheckpoint),
    Writes(PutWrites),
}

/// The puts that are on their way.
pub(super) struct Lanes {
    inner: Arc<dyn Storage>,
    state: Arc<Mutex<State>>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct State {
    /// Of each thread, which put is the last, and when it has its place.
    last: HashMap<String, (u64, oneshot::Receiver<()>)>,
    /// Counts puts.
    count: u64,
    gaps: Gaps,
}

impl Lanes {
    pub(super) fn new(inner: &Arc<dyn Storage>) -> Self {
        Self { inner: inner.clone(), state: Arc::default(), tasks: TaskTracker::new() }
    }

    /// Has something encrypted, and put behind what was asked for before.
    pub(super) fn put(
        &self,
        writer: Writer,
        thread: &str,
        sealing: impl Future<Output = Result<Put>> + Send + 'static,
    ) -> Committed {
        let (placed, has_place) = oneshot::channel();
        let (number, before) = {
            let mut state = locked(&self.state);
            state.count += 1;
            let number = state.count;
            (number, state.last.insert(thread.to_owned(), (number, has_place)))
        };
        let (inner, state, thread) = (self.inner.clone(), self.state.clone(), thread.to_owned());
        let sealed = self.tasks.spawn(sealing);
        let done = self.tasks.spawn(async move {
            let put = sealed.await.unwrap_or_else(|_| Err(broken_off()));
            if let Some((_, before)) = before {
                // One that broke off has no place, and holds up nobody.
                let _ = before.await;
            }
            let put = locked(&state).gaps.behind(writer, &thread, put);
            let commit = match put {
                Ok(Put::Checkpoint(put)) => inner.put_checkpoint(writer, put),
                Ok(Put::Writes(put)) => inner.put_writes(writer, put),
                Err(error) => Box::pin(async { Err(error) }),
            };
            // The next one has its place behind this one already, and need not wait for the commit.
            drop(placed);
            locked(&state).forget(&thread, number);
            commit.await
        });
        Box::pin(async move { done.await.unwrap_or_else(|_| Err(broken_off())) })
    }
}

impl State {
    /// Nobody has to wait for a put that has its place.
    fn forget(&mut self, thread: &str, number: u64) {
        if self.last.get(thread).is_some_and(|(last, _)| *last == number) {
            self.last.remove(thread);
        }
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of each thread, the run of which something is missing, and why. A checkpoint holds what has changed since the one before,
/// so that nothing of that run may be stored behind the gap. Its next attempt begins with what was stored.
#[derive(Default)]
struct Gaps(HashMap<String, (Writer, StorageError)>);

impl Gaps {
    fn behind(&mut self, writer: Writer, thread: &str, put: Result<Put>) -> Result<Put> {
        if writer == Writer::Call {
            return put;
        }
        match self.0.get(thread) {
            Some((broken, error)) if *broken == writer => return Err(error.clone()),
            Some(_) => drop(self.0.remove(thread)),
            None => {}
        }
        if let Err(error) = &put {
            self.0.insert(thread.to_owned(), (writer, error.clone()));
        }
        put
    }
}

fn broken_off() -> StorageError {
    StorageError::Unavailable("what was to be encrypted broke off".into())
}
