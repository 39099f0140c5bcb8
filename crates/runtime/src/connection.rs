//! The main connection of one worker: who waits for which id, and what is sent.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use threadyard_core::{
    checkpoints::{Committed, Writer},
    runtime::{GraphError, RunEnd, RuntimeError},
    sealing::SealingContext,
    storage::StorageError,
    stream::StreamEvent,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::{mpsc, oneshot},
};

use crate::{
    exchange::ExchangeSlot,
    frame::{Frame, FrameError},
};

/// What waits for frames with one id.
pub(crate) enum Waiter {
    Run(RunSlot),
    Call(oneshot::Sender<Result<Bytes, RuntimeError>>, SealingContext),
    /// An exchange with the user's application, begun by either side.
    Exchange(ExchangeSlot),
}

/// A run that goes on in the worker.
pub(crate) struct RunSlot {
    pub(crate) writer: Writer,
    pub(crate) said: mpsc::UnboundedSender<Said>,
    /// One-way puts whose commits nobody has waited for yet.
    pub(crate) commits: Vec<Committed>,
    /// Under which context what it writes is encrypted by the project's own handlers.
    pub(crate) sealing: SealingContext,
}

/// What a run's session hears.
pub(crate) enum Said {
    Events(Vec<StreamEvent>),
    /// The end, and the puts that must have committed before it counts.
    End(RunEnd, Vec<Committed>),
    StorageFailed(StorageError),
    Lost(RuntimeError),
}

/// Sends frames and knows who waits for answers. Shared by the sessions and the reader.
pub(crate) struct Connection {
    outgoing: mpsc::UnboundedSender<Frame>,
    waiters: Mutex<Option<HashMap<u64, Waiter>>>,
    next_id: AtomicU64,
}

impl Connection {
    /// Starts to write to the worker.
    pub(crate) fn start(write: OwnedWriteHalf, tasks: &tokio_util::task::TaskTracker) -> Arc<Self> {
        let (outgoing, queue) = mpsc::unbounded_channel();
        tasks.spawn(send_all(write, queue));
        Arc::new(Self { outgoing, waiters: Mutex::new(Some(HashMap::new())), next_id: AtomicU64::new(1) })
    }

    pub(crate) fn send(&self, frame: Frame) {
        // A closed queue means that the worker is gone, which the reader tells everybody.
        let _ = self.outgoing.send(frame);
    }

    /// Registers who waits, and says under which id; fails when the worker is gone.
    pub(crate) fn register(&self, waiter: Waiter) -> Result<u64, RuntimeError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        match self.lock().as_mut() {
            Some(waiters) => {
                waiters.insert(id, waiter);
                Ok(id)
            }
            None => Err(RuntimeError::WorkerLost("it ended before the request".into())),
        }
    }

    /// Registers who waits for something that the worker has begun.
    pub(crate) fn register_theirs(&self, id: u64, waiter: Waiter) {
        if let Some(waiters) = self.lock().as_mut() {
            waiters.insert(id, waiter);
        }
    }

    /// Looks at an exchange, if it still goes on.
    pub(crate) fn with_exchange(&self, id: u64, look: impl FnOnce(&ExchangeSlot)) {
        if let Some(Some(Waiter::Exchange(slot))) = self.lock().as_ref().map(|waiters| waiters.get(&id)) {
            look(slot);
        }
    }

    /// Forgets who waits when they do so no longer.
    pub(crate) fn forget_when_dropped(&self, id: u64) -> Waiting<'_> {
        Waiting { connection: self, id }
    }

    pub(crate) fn take(&self, id: u64) -> Option<Waiter> {
        self.lock().as_mut()?.remove(&id)
    }

    /// Looks at a run, if it still goes on.
    pub(crate) fn with_run<T>(&self, id: u64, look: impl FnOnce(&mut RunSlot) -> T) -> Option<T> {
        match self.lock().as_mut()?.get_mut(&id)? {
            Waiter::Run(slot) => Some(look(slot)),
            Waiter::Call(..) | Waiter::Exchange(_) => None,
        }
    }

    /// Tells who waits that storage failed it. An answer to a call that a worker makes of that is heard by nobody.
    pub(crate) fn storage_failed(&self, id: u64, error: &StorageError) {
        let mut waiters = self.lock();
        let Some(waiters) = waiters.as_mut() else { return };
        match waiters.get(&id) {
            Some(Waiter::Run(slot)) => drop(slot.said.send(Said::StorageFailed(error.clone()))),
            Some(Waiter::Call(..)) => {
                if let Some(Waiter::Call(reply, _)) = waiters.remove(&id) {
                    drop(reply.send(Err(RuntimeError::Storage(error.clone()))));
                }
            }
            Some(Waiter::Exchange(_)) | None => {}
        }
    }

    /// Under which right frames with this id write checkpoints.
    pub(crate) fn writer(&self, id: u64) -> Option<Writer> {
        match self.lock().as_ref()?.get(&id)? {
            Waiter::Run(slot) => Some(slot.writer),
            Waiter::Call(..) => Some(Writer::Call),
            Waiter::Exchange(_) => None,
        }
    }

    /// Under which context what comes in frames with this id is encrypted.
    pub(crate) fn sealing(&self, id: u64) -> SealingContext {
        match self.lock().as_ref().and_then(|waiters| waiters.get(&id)) {
            Some(Waiter::Run(RunSlot { sealing, .. }) | Waiter::Call(_, sealing)) => sealing.clone(),
            Some(Waiter::Exchange(_)) | None => SealingContext::default(),
        }
    }

    /// How many runs go on.
    pub(crate) fn runs(&self) -> usize {
        let runs =
            |waiters: &HashMap<u64, Waiter>| waiters.values().filter(|waiter| matches!(waiter, Waiter::Run(_))).count();
        self.lock().as_ref().map_or(0, runs)
    }

    /// Whether runs go on other than those.
    pub(crate) fn has_runs_besides(&self, slots: &HashSet<u64>) -> bool {
        let is_other = |(id, waiter): (&u64, &Waiter)| matches!(waiter, Waiter::Run(_)) && !slots.contains(id);
        self.lock().as_ref().is_some_and(|waiters| waiters.iter().any(is_other))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().is_some()
    }

    /// Tells everybody that the worker is gone.
    pub(crate) fn lose(&self, why: &str) {
        let runs_lost = match self.runs() {
            0 | 1 => RuntimeError::WorkerLost(why.to_owned()),
            _ => RuntimeError::SharedWorkerLost(why.to_owned()),
        };
        self.end(&runs_lost, &RuntimeError::WorkerLost(why.to_owned()));
    }

    /// Tells everybody that the worker is ended since one of its runs does not stop.
    pub(crate) fn displace(&self) {
        self.end(&RuntimeError::Displaced, &RuntimeError::Displaced);
    }

    fn end(&self, runs_lost: &RuntimeError, calls_lost: &RuntimeError) {
        let waiters = self.lock().take().unwrap_or_default();
        for waiter in waiters.into_values() {
            match waiter {
                Waiter::Run(slot) => drop(slot.said.send(Said::Lost(runs_lost.clone()))),
                Waiter::Call(reply, _) => drop(reply.send(Err(calls_lost.clone()))),
                Waiter::Exchange(slot) => slot.close(Some(calls_lost.to_string())),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiter>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who waits, until it is dropped.
pub(crate) struct Waiting<'a> {
    connection: &'a Connection,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.connection.take(self.id);
    }
}

/// Writes everything that is queued in one system call.
async fn send_all(mut write: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<Frame>) {
    let mut frames = Vec::new();
    let mut buffer = BytesMut::new();
    while queue.recv_many(&mut frames, 256).await > 0 {
        buffer.clear();
        frames.drain(..).for_each(|frame| frame.encode(&mut buffer));
        if write.write_all(&buffer).await.is_err() {
            return;
        }
    }
}

/// Reads frames one after the other.
pub(crate) struct FrameReader {
    read: OwnedReadHalf,
    buffer: BytesMut,
}

impl FrameReader {
    pub(crate) fn new(read: OwnedReadHalf) -> Self {
        Self { read, buffer: BytesMut::with_capacity(64 << 10) }
    }

    /// The next frame, or `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(64 << 10);
            match self.read.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }

    /// What follows the frames, for connections that go on as plain bytes.
    pub(crate) fn into_rest(self) -> (BytesMut, OwnedReadHalf) {
        (self.buffer, self.read)
    }
}

/// An error that a worker replied with.
pub(crate) fn refusal(body: &[u8]) -> RuntimeError {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
        message: String,
        #[serde(default)]
        traceback: Option<String>,
        #[serde(default)]
        status: Option<u16>,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(Refusal { error, message, traceback, status }) => {
            let error = GraphError { error, message, traceback };
            match status {
                Some(status) => RuntimeError::Refused { status, error },
                None => RuntimeError::Raised(error),
            }
        }
        Err(error) => RuntimeError::WorkerLost(format!("its reply makes no sense: {error}")),
    }
}
