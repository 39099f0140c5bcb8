//! The event bus within one process: a bounded log for each run, and wake-ups.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use threadyard_core::{
    ambient::Ambient,
    bus::{Closing, EventBus, From, Subscription, ThreadWatch, Topic, Wake},
    ids::{RunId, ThreadId},
    stream::{EventId, StreamEvent},
};
use tokio::sync::{Notify, futures::OwnedNotified, mpsc};

use super::log::{Log, Reader};

/// The limits of the bus.
#[derive(Clone, Copy, Debug)]
pub struct LocalBusConfig {
    /// How many bytes of a run's events are kept for its slowest reader; readers further behind are told that they lag.
    pub max_bytes: usize,
}

impl Default for LocalBusConfig {
    fn default() -> Self {
        Self { max_bytes: 64 << 20 }
    }
}

/// Carries events between the parts of one process.
pub struct LocalBus {
    config: LocalBusConfig,
    ambient: Ambient,
    logs: Mutex<HashMap<RunId, Arc<Log>>>,
    watches: Arc<Mutex<Watches>>,
    topics: [Arc<Notify>; Topic::ALL.len()],
}

/// Who hears of the runs of which thread.
type Watches = HashMap<ThreadId, Vec<mpsc::UnboundedSender<(RunId, Reader)>>>;

impl LocalBus {
    /// A bus without any streams.
    pub fn new(config: LocalBusConfig, ambient: Ambient) -> Self {
        Self { config, ambient, logs: Mutex::default(), watches: Arc::default(), topics: Default::default() }
    }

    /// What a run has said, if its stream is open.
    pub(super) fn log(&self, run: RunId) -> Option<Arc<Log>> {
        guard(&self.logs).get(&run).cloned()
    }

    /// Opens a run's stream, unless it is open.
    pub(super) fn opened(&self, run: RunId, thread: ThreadId) -> Arc<Log> {
        let next_id = || EventId { epoch_ms: self.ambient.now().as_millis(), seq: 1 };
        guard(&self.logs).entry(run).or_insert_with(|| Arc::new(Log::new(thread, next_id()))).clone()
    }

    /// Forgets a stream that nobody reads. Says whether it did.
    pub(super) fn forget(&self, run: RunId) -> bool {
        let mut logs = guard(&self.logs);
        let deserted = logs.get(&run).is_some_and(|log| !log.has_readers());
        if deserted {
            logs.remove(&run);
        }
        deserted
    }

    /// Hands a reader at the run's start to everybody who watches its thread, once.
    fn tell(&self, run: RunId, log: &Arc<Log>) {
        // Held over both, so that whoever begins to watch hears of the run here or finds it running.
        let watches = guard(&self.watches);
        if log.begun() {
            return;
        }
        for watch in watches.get(&log.thread).into_iter().flatten() {
            let _ = watch.send((run, Reader::join(log.clone(), From::Start)));
        }
    }

    fn topic(&self, topic: Topic) -> &Arc<Notify> {
        &self.topics[topic as usize]
    }
}

pub(super) fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventBus for LocalBus {
    fn open(&self, run: RunId, thread: ThreadId) -> EventId {
        self.opened(run, thread).next_id()
    }

    fn follow(&self, run: RunId, thread: ThreadId, from: From) -> Box<dyn Subscription> {
        Box::new(Reader::join(self.opened(run, thread), from))
    }

    // The next attempt is made here as well, and goes on in the same stream.
    fn hand_over(&self, _: RunId) {}

    fn watch(&self, thread: ThreadId) -> Box<dyn ThreadWatch> {
        let (tell, runs) = mpsc::unbounded_channel();
        guard(&self.watches).entry(thread).or_default().push(tell);
        Box::new(Watch { thread, runs, watches: self.watches.clone() })
    }

    fn append(&self, run: RunId, first: EventId, events: Vec<StreamEvent>) {
        let Some(log) = self.log(run) else { return };
        self.tell(run, &log);
        log.append(first, events, self.config.max_bytes);
    }

    fn subscribe(&self, run: RunId, from: From) -> Option<Box<dyn Subscription>> {
        // Joined under the lock, so that no stream is forgotten that somebody is about to read.
        let logs = guard(&self.logs);
        Some(Box::new(Reader::join(logs.get(&run)?.clone(), from)))
    }

    fn close(&self, run: RunId, closing: Closing) {
        // Readers hold the log themselves.
        let Some(log) = guard(&self.logs).remove(&run) else { return };
        log.close(closing);
    }

    fn unheard(&self) -> Vec<RunId> {
        Vec::new()
    }

    fn wake(&self, topic: Topic) {
        self.topic(topic).notify_waiters();
    }

    // There are none.
    fn wake_others(&self, _: Topic) {}

    fn woken(&self, topic: Topic) -> Wake {
        Box::pin(interest(self.topic(topic)))
    }
}

/// Registers now: `notify_waiters` wakes a `notified` future from the moment it was made, polled or not.
pub(super) fn interest(notify: &Arc<Notify>) -> OwnedNotified {
    notify.clone().notified_owned()
}

/// A place among those that hear of a thread's runs.
struct Watch {
    thread: ThreadId,
    runs: mpsc::UnboundedReceiver<(RunId, Reader)>,
    watches: Arc<Mutex<Watches>>,
}

#[async_trait]
impl ThreadWatch for Watch {
    async fn next(&mut self) -> (RunId, Box<dyn Subscription>) {
        match self.runs.recv().await {
            Some((run, reader)) => (run, Box::new(reader)),
            // The bus is gone, and with it everything that could be heard of.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.runs.close();
        let mut watches = guard(&self.watches);
        if let Some(others) = watches.get_mut(&self.thread) {
            others.retain(|other| !other.is_closed());
            if others.is_empty() {
                watches.remove(&self.thread);
            }
        }
    }
}
