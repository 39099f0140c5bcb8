//! The event bus within one process: a bounded log for each run, and wake-ups.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use threadyard_core::{
    ambient::Ambient,
    bus::{Closing, EventBus, From, Received, Subscription, ThreadWatch, Topic, Wake},
    ids::{RunId, ThreadId},
    stream::{EventId, StreamEvent},
};
use tokio::sync::{Notify, futures::OwnedNotified, mpsc};

/// The limits of the bus.
#[derive(Clone, Copy, Debug)]
pub struct LocalBusConfig {
    /// How many bytes of a run's events are kept for its slowest reader; readers further behind are told that they lag.
    pub max_bytes: usize,
    /// How long a resumable stream stays readable after its run ended.
    pub keep: Duration,
}

impl Default for LocalBusConfig {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, keep: Duration::from_mins(2) }
    }
}

/// Carries events between the parts of one process.
pub struct LocalBus {
    config: LocalBusConfig,
    ambient: Ambient,
    logs: Mutex<HashMap<RunId, Arc<Log>>>,
    watches: Arc<Mutex<Watches>>,
    runs: Arc<Notify>,
    deliveries: Arc<Notify>,
    crons: Arc<Notify>,
}

/// Who hears of the runs of which thread.
type Watches = HashMap<ThreadId, Vec<mpsc::UnboundedSender<(RunId, Reader)>>>;

/// What one run has said.
struct Log {
    state: Mutex<LogState>,
    changed: Arc<Notify>,
}

struct LogState {
    epoch_ms: i64,
    events: VecDeque<StreamEvent>,
    /// The place of the first kept event; places count from 1.
    first: u64,
    bytes: usize,
    keep: bool,
    /// Where the readers are, by their numbers.
    places: HashMap<u64, u64>,
    next_reader: u64,
    closed: Option<(Closing, Instant)>,
}

impl LogState {
    /// Forgets what nobody needs any more, and of the rest what is over the limit.
    fn trim(&mut self, max_bytes: usize) {
        let end = self.first + self.events.len() as u64;
        let needed = if self.keep { self.first } else { self.places.values().copied().min().unwrap_or(end) };
        while let Some(event) = self.events.front() {
            if self.first >= needed && (self.bytes <= max_bytes || self.events.len() == 1) {
                return;
            }
            self.bytes -= size(event);
            self.events.pop_front();
            self.first += 1;
        }
    }
}

impl LocalBus {
    /// A bus without any streams.
    pub fn new(config: LocalBusConfig, ambient: Ambient) -> Self {
        Self {
            config,
            ambient,
            logs: Mutex::default(),
            watches: Arc::default(),
            runs: Arc::default(),
            deliveries: Arc::default(),
            crons: Arc::default(),
        }
    }

    fn log(&self, run: RunId) -> Option<Arc<Log>> {
        guard(&self.logs).get(&run).cloned()
    }

    fn topic(&self, topic: Topic) -> &Arc<Notify> {
        match topic {
            Topic::Runs => &self.runs,
            Topic::Deliveries => &self.deliveries,
            Topic::Crons => &self.crons,
        }
    }

    fn drop_stale(&self, logs: &mut HashMap<RunId, Arc<Log>>) {
        let keep = self.config.keep;
        logs.retain(|_, log| guard(&log.state).closed.as_ref().is_none_or(|(_, at)| at.elapsed() < keep));
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventBus for LocalBus {
    fn open(&self, run: RunId, thread: ThreadId, keep: bool) {
        let mut logs = guard(&self.logs);
        if logs.contains_key(&run) {
            return;
        }
        self.drop_stale(&mut logs);
        let state = LogState {
            epoch_ms: self.ambient.now().as_millis(),
            events: VecDeque::new(),
            first: 1,
            bytes: 0,
            keep,
            places: HashMap::new(),
            next_reader: 0,
            closed: None,
        };
        let log = Arc::new(Log { state: Mutex::new(state), changed: Arc::default() });
        for watch in guard(&self.watches).get(&thread).into_iter().flatten() {
            let _ = watch.send((run, Reader::join(log.clone(), From::After(EventId::START))));
        }
        logs.insert(run, log);
    }

    fn watch(&self, thread: ThreadId) -> Box<dyn ThreadWatch> {
        let (tell, runs) = mpsc::unbounded_channel();
        guard(&self.watches).entry(thread).or_default().push(tell);
        Box::new(Watch { thread, runs, watches: self.watches.clone() })
    }

    fn append(&self, run: RunId, events: Vec<StreamEvent>) {
        let Some(log) = self.log(run) else { return };
        {
            let mut state = guard(&log.state);
            state.bytes += events.iter().map(size).sum::<usize>();
            state.events.extend(events);
            state.trim(self.config.max_bytes);
        }
        log.changed.notify_waiters();
    }

    fn subscribe(&self, run: RunId, from: From) -> Option<Box<dyn Subscription>> {
        Some(Box::new(Reader::join(self.log(run)?, from)))
    }

    fn close(&self, run: RunId, closing: Closing) {
        let mut logs = guard(&self.logs);
        let Some(log) = logs.get(&run).cloned() else { return };
        let keep = {
            let mut state = guard(&log.state);
            if state.closed.is_none() {
                state.closed = Some((closing, Instant::now()));
            }
            state.keep
        };
        // Readers hold the log themselves.
        if !keep {
            logs.remove(&run);
        }
        drop(logs);
        log.changed.notify_waiters();
    }

    fn wake(&self, topic: Topic) {
        self.topic(topic).notify_waiters();
    }

    fn woken(&self, topic: Topic) -> Wake {
        Box::pin(interest(self.topic(topic)))
    }
}

/// Registers now: `notify_waiters` wakes a `notified` future from the moment it was made, polled or not.
fn interest(notify: &Arc<Notify>) -> OwnedNotified {
    notify.clone().notified_owned()
}

fn size(event: &StreamEvent) -> usize {
    event.name.len() + event.data.len()
}

/// A place in a run's log.
struct Reader {
    log: Arc<Log>,
    id: u64,
    /// The place of the next event to read.
    next: u64,
}

#[async_trait]
impl Subscription for Reader {
    async fn next(&mut self) -> Received {
        loop {
            // Registered before looking, so that no change is missed.
            let changed = interest(&self.log.changed);
            if let Some(received) = self.look() {
                return received;
            }
            changed.await;
        }
    }
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

impl Reader {
    fn join(log: Arc<Log>, from: From) -> Self {
        let (id, next) = {
            let mut state = guard(&log.state);
            let end = state.first + state.events.len() as u64;
            let next = match from {
                From::After(EventId::START) => 1,
                From::After(id) if id.epoch_ms == state.epoch_ms => id.seq.saturating_add(1).min(end),
                // After an id of another time, nothing of what it followed is known here.
                From::Now | From::After(_) => end,
            };
            let id = state.next_reader;
            state.next_reader += 1;
            state.places.insert(id, next);
            (id, next)
        };
        Self { log, id, next }
    }

    fn look(&mut self) -> Option<Received> {
        let mut state = guard(&self.log.state);
        if self.next < state.first {
            self.next = state.first;
            return Some(Received::Lagged);
        }
        let skip = usize::try_from(self.next - state.first).unwrap_or(usize::MAX);
        let new: Vec<_> = state.events.iter().skip(skip).cloned().collect();
        if new.is_empty() {
            return state.closed.as_ref().map(|(closing, _)| Received::Closed(closing.clone()));
        }
        let first = EventId { epoch_ms: state.epoch_ms, seq: self.next };
        self.next += new.len() as u64;
        state.places.insert(self.id, self.next);
        state.trim(usize::MAX);
        Some(Received::Events(first, new))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = guard(&self.log.state);
        state.places.remove(&self.id);
        state.trim(usize::MAX);
    }
}
