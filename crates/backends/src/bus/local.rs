//! The event bus within one process: a bounded log for each run, and wake-ups.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    runs: Arc<Notify>,
    deliveries: Arc<Notify>,
    crons: Arc<Notify>,
    recoveries: Arc<Notify>,
}

/// Who hears of the runs of which thread.
type Watches = HashMap<ThreadId, Vec<mpsc::UnboundedSender<(RunId, Reader)>>>;

/// What one run has said.
struct Log {
    thread: ThreadId,
    state: Mutex<LogState>,
    changed: Arc<Notify>,
}

struct LogState {
    events: VecDeque<StreamEvent>,
    /// The place of the first event that is still here; places count what this log has heard.
    first: u64,
    /// The id of the event that comes next.
    next_id: EventId,
    bytes: usize,
    /// Where the readers are, by their numbers.
    places: HashMap<u64, u64>,
    next_reader: u64,
    /// Whether the run has begun to speak, and those who watch its thread know.
    told: bool,
    closed: Option<Closing>,
}

impl LogState {
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Adds events. Those that they do not follow on are forgotten, as is what they would be counted with.
    fn add(&mut self, first: EventId, events: Vec<StreamEvent>) {
        if first != self.next_id {
            self.first = self.end();
            self.events.clear();
            self.bytes = 0;
        }
        self.next_id = EventId { seq: first.seq + events.len() as u64, ..first };
        self.bytes += events.iter().map(size).sum::<usize>();
        self.events.extend(events);
    }

    /// Forgets what nobody needs any more, and of the rest what is over the limit.
    fn trim(&mut self, max_bytes: usize) {
        let needed = self.places.values().copied().min().unwrap_or(self.end());
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
            recoveries: Arc::default(),
        }
    }

    fn log(&self, run: RunId) -> Option<Arc<Log>> {
        guard(&self.logs).get(&run).cloned()
    }

    /// Hands a reader at the run's start to everybody who watches its thread, once.
    fn tell(&self, run: RunId, log: &Arc<Log>) {
        // Held over both, so that whoever begins to watch hears of the run here or finds it running.
        let watches = guard(&self.watches);
        if std::mem::replace(&mut guard(&log.state).told, true) {
            return;
        }
        for watch in watches.get(&log.thread).into_iter().flatten() {
            let _ = watch.send((run, Reader::join(log.clone(), From::Start)));
        }
    }

    fn topic(&self, topic: Topic) -> &Arc<Notify> {
        match topic {
            Topic::Runs => &self.runs,
            Topic::Deliveries => &self.deliveries,
            Topic::Crons => &self.crons,
            Topic::Recoveries => &self.recoveries,
        }
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventBus for LocalBus {
    fn open(&self, run: RunId, thread: ThreadId) -> EventId {
        let mut logs = guard(&self.logs);
        if let Some(open) = logs.get(&run) {
            return guard(&open.state).next_id;
        }
        let next_id = EventId { epoch_ms: self.ambient.now().as_millis(), seq: 1 };
        let state = LogState {
            events: VecDeque::new(),
            first: 0,
            next_id,
            bytes: 0,
            places: HashMap::new(),
            next_reader: 0,
            told: false,
            closed: None,
        };
        logs.insert(run, Arc::new(Log { thread, state: Mutex::new(state), changed: Arc::default() }));
        next_id
    }

    fn watch(&self, thread: ThreadId) -> Box<dyn ThreadWatch> {
        let (tell, runs) = mpsc::unbounded_channel();
        guard(&self.watches).entry(thread).or_default().push(tell);
        Box::new(Watch { thread, runs, watches: self.watches.clone() })
    }

    fn append(&self, run: RunId, first: EventId, events: Vec<StreamEvent>) {
        let Some(log) = self.log(run) else { return };
        self.tell(run, &log);
        {
            let mut state = guard(&log.state);
            state.add(first, events);
            state.trim(self.config.max_bytes);
        }
        log.changed.notify_waiters();
    }

    fn subscribe(&self, run: RunId, from: From) -> Option<Box<dyn Subscription>> {
        Some(Box::new(Reader::join(self.log(run)?, from)))
    }

    fn close(&self, run: RunId, closing: Closing) {
        // Readers hold the log themselves.
        let Some(log) = guard(&self.logs).remove(&run) else { return };
        guard(&log.state).closed = Some(closing);
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
            let next = match from {
                From::Start => 0,
                From::Now => state.end(),
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
            return state.closed.clone().map(Received::Closed);
        }
        let first = EventId { seq: state.next_id.seq - new.len() as u64, ..state.next_id };
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
