//! The event bus of several replicas: readers ask for the runs that are said elsewhere, and who says them tells them.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use threadyard_core::{
    ambient::Ambient,
    bus::{Closing, EventBus, From, Subscription, ThreadWatch, Topic, Wake},
    ids::{RunId, ThreadId},
    stream::{EventId, StreamEvent},
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::Instant,
};

use super::{
    following::Following,
    frames::{self, Frame, LogId, ReplicaId, Said},
    holding::Holding,
    local::{LocalBus, LocalBusConfig, guard},
    wire::{Ends, Heard, Outgoing, Sender, Wire},
};

/// How many frames may wait to be heard before the wire has to wait.
const UNHEARD_FRAMES: usize = 1_024;
/// News that comes within this time goes out together.
const TOGETHER: Duration = Duration::from_millis(2);

/// The limits of a bus that replicas share.
#[derive(Clone, Copy, Debug)]
pub struct SharedBusConfig {
    /// Those of the part within this process.
    pub local: LocalBusConfig,
    /// How much of what a run said is kept for followers elsewhere that ask late.
    pub kept_bytes: usize,
    /// How much is kept of all runs that have ended.
    pub ended_bytes: usize,
    /// How long the end of a run is kept.
    pub ended_for: Duration,
    /// How many bytes of frames may wait for the wire.
    pub outgoing_bytes: usize,
    /// How often a replica says what it follows and watches.
    pub refresh: Duration,
    /// How long others remember it.
    pub wanted_for: Duration,
    /// When a followed run of which nobody speaks is unheard. Above `refresh`: who holds it answers each time.
    pub unheard_after: Duration,
}

impl Default for SharedBusConfig {
    fn default() -> Self {
        Self {
            local: LocalBusConfig::default(),
            kept_bytes: 256 << 10,
            ended_bytes: 32 << 20,
            ended_for: Duration::from_mins(1),
            outgoing_bytes: 16 << 20,
            refresh: Duration::from_secs(3),
            wanted_for: Duration::from_secs(15),
            unheard_after: Duration::from_secs(5),
        }
    }
}

/// Carries events between the replicas of a server.
pub struct SharedBus {
    shared: Arc<Shared>,
    /// Ends with the bus.
    _tasks: JoinSet<()>,
}

struct Shared {
    ambient: Ambient,
    config: SharedBusConfig,
    local: LocalBus,
    sender: Sender,
    state: Mutex<State>,
    /// There is news for others.
    news: Notify,
}

struct State {
    holding: Holding,
    following: Following,
    wakes: Vec<Topic>,
}

impl SharedBus {
    /// A bus whose replicas are connected by `wire`.
    pub(super) fn over(wire: impl Wire, config: SharedBusConfig, ambient: Ambient) -> Self {
        let replica = ReplicaId(ambient.random());
        let outgoing = Arc::new(Outgoing::new(config.outgoing_bytes));
        let sender = Sender { replica, outgoing: outgoing.clone() };
        let (deserted, left) = mpsc::unbounded_channel();
        let state = State {
            holding: Holding::new(sender.clone(), &config),
            following: Following::new(&config, deserted),
            wakes: Vec::new(),
        };
        let local = LocalBus::new(config.local, ambient.clone());
        let (state, news) = (Mutex::new(state), Notify::new());
        let shared = Arc::new(Shared { ambient, config, local, sender, state, news });

        let (hands_in, heard) = mpsc::channel(UNHEARD_FRAMES);
        let mut tasks = JoinSet::new();
        tasks.spawn(wire.carry(Ends { replica, outgoing, heard: hands_in }));
        tasks.spawn(listen(shared.clone(), heard));
        tasks.spawn(tell(shared.clone(), left));
        tasks.spawn(tick(shared.clone()));
        Self { shared, _tasks: tasks }
    }
}

/// Hears what other replicas say.
async fn listen(shared: Arc<Shared>, mut heard: mpsc::Receiver<Heard>) {
    while let Some(heard) = heard.recv().await {
        match heard {
            Heard::Connected => shared.connected(),
            Heard::Frame(written) => match Frame::decode(&written) {
                Some(frame) if frame.from != shared.sender.replica => shared.hear(frame),
                Some(_) => {}
                None => tracing::debug!(bytes = written.len(), "a frame of another version is ignored"),
            },
        }
    }
}

/// Tells others what is new here, all that comes within a moment at once.
async fn tell(shared: Arc<Shared>, mut deserted: mpsc::UnboundedReceiver<RunId>) {
    loop {
        let left = tokio::select! {
            () = shared.news.notified() => None,
            run = deserted.recv() => run,
        };
        tokio::time::sleep(TOGETHER).await;
        let mut state = shared.state();
        for run in left.into_iter().chain(std::iter::from_fn(|| deserted.try_recv().ok())) {
            state.following.desert(&shared.local, run);
        }
        let news = state.following.news(Instant::now());
        let wakes = std::mem::take(&mut state.wakes);
        // Sent under the lock, so that others hear of things in the order they happened.
        shared.sender.to_all(news);
        if !wakes.is_empty() {
            shared.sender.to_all([Said::wake(wakes)]);
        }
    }
}

/// Says again what others would forget, and forgets what they do not say again.
async fn tick(shared: Arc<Shared>) {
    let period = shared.config.refresh / 3;
    let mut watches = Instant::now();
    loop {
        tokio::time::sleep(period).await;
        let now = Instant::now();
        let mut state = shared.state();
        state.holding.expire(now);
        let mut said = state.following.tick(&shared.local, now);
        if now.duration_since(watches) >= shared.config.refresh {
            said.extend(state.following.watches_again());
            watches = now;
        }
        shared.sender.to_all(said);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        guard(&self.state)
    }

    /// Whatever others said meanwhile may be lost: they are asked again, and every loop looks by itself.
    fn connected(&self) {
        let all = self.state().following.all(Instant::now());
        self.sender.to_all(std::iter::once(Said::Hello).chain(all));
        for topic in Topic::ALL {
            self.local.wake(topic);
        }
    }

    fn hear(&self, Frame { from, said }: Frame) {
        let (now, mut state) = (Instant::now(), self.state());
        match said {
            Said::Hello => {
                for said in state.following.all(now) {
                    self.sender.to(&[from], said);
                }
            }
            Said::Wake(topics) => frames::topics(&topics).for_each(|topic| self.local.wake(topic)),
            Said::Want(wants) => wants.iter().for_each(|want| state.holding.want(from, want, now)),
            Said::Unwant(runs) => runs.into_iter().for_each(|run| state.holding.unwant(from, run)),
            Said::Watch(watches) => watches.iter().for_each(|watch| state.holding.watch(from, watch, now)),
            Said::Unwatch(thread) => state.holding.unwatch(from, thread),
            Said::Events(events) => state.following.hear(&self.local, events, now),
            Said::Closed(closed) => state.following.hear_end(&self.local, closed, now),
        }
        // What was lost on the way is asked for.
        if state.following.has_news() {
            self.news.notify_one();
        }
    }
}

impl EventBus for SharedBus {
    fn open(&self, run: RunId, thread: ThreadId) -> EventId {
        let mut state = self.shared.state();
        let log = self.shared.local.opened(run, thread);
        let next_id = log.next_id();
        state.holding.hold(run, log, || LogId(self.shared.ambient.random()));
        state.following.end(run);
        self.shared.news.notify_one();
        next_id
    }

    fn follow(&self, run: RunId, thread: ThreadId, from: From) -> Box<dyn Subscription> {
        let mut state = self.shared.state();
        let is_open = self.shared.local.log(run).is_some();
        let reader = self.shared.local.follow(run, thread, from);
        if !is_open {
            state.following.begin(run, self.shared.local.opened(run, thread), from);
            self.shared.news.notify_one();
        }
        reader
    }

    fn hand_over(&self, run: RunId) {
        let mut state = self.shared.state();
        let Some(log) = state.holding.hand_over(run) else { return };
        // Readers here go on with what another replica says.
        state.following.begin(run, log, From::Start);
        state.following.desert(&self.shared.local, run);
        self.shared.news.notify_one();
    }

    fn watch(&self, thread: ThreadId) -> Box<dyn ThreadWatch> {
        // Watched here first, so that nothing is told that nobody hears.
        let watch = self.shared.local.watch(thread);
        let said = self.shared.state().following.watch(thread);
        self.shared.sender.to_all(said);
        Box::new(SharedWatch { thread, watch, shared: self.shared.clone() })
    }

    fn append(&self, run: RunId, first: EventId, events: Vec<StreamEvent>) {
        self.shared.state().holding.append(&self.shared.local, run, first, events);
    }

    fn subscribe(&self, run: RunId, from: From) -> Option<Box<dyn Subscription>> {
        self.shared.local.subscribe(run, from)
    }

    fn close(&self, run: RunId, closing: Closing) {
        let (now, mut state) = (Instant::now(), self.shared.state());
        state.following.end(run);
        state.following.is_over(run, now);
        self.shared.local.close(run, closing.clone());
        state.holding.close(run, closing, now);
        self.shared.news.notify_one();
    }

    fn unheard(&self) -> Vec<RunId> {
        self.shared.state().following.unheard(Instant::now(), self.shared.config.unheard_after)
    }

    fn wake(&self, topic: Topic) {
        self.shared.local.wake(topic);
    }

    fn wake_others(&self, topic: Topic) {
        let mut state = self.shared.state();
        if !state.wakes.contains(&topic) {
            state.wakes.push(topic);
            self.shared.news.notify_one();
        }
    }

    fn woken(&self, topic: Topic) -> Wake {
        self.shared.local.woken(topic)
    }
}

/// A watch of a thread that other replicas know of.
struct SharedWatch {
    thread: ThreadId,
    watch: Box<dyn ThreadWatch>,
    shared: Arc<Shared>,
}

#[async_trait]
impl ThreadWatch for SharedWatch {
    async fn next(&mut self) -> (RunId, Box<dyn Subscription>) {
        self.watch.next().await
    }
}

impl Drop for SharedWatch {
    fn drop(&mut self) {
        let said = self.shared.state().following.unwatch(self.thread);
        self.shared.sender.to_all(said);
    }
}
