//! Live events and hints between the parts of a server. Storage holds the facts; what is lost here costs time only.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    ids::{RunId, ThreadId},
    stream::{EventId, StreamEvent},
};

/// Something to wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Runs may be due.
    Runs,
    /// Webhook deliveries may be due.
    Deliveries,
    /// Crons may be due.
    Crons,
    /// Deliveries are to be recovered.
    Recoveries,
    /// Runs that go on somewhere are asked to stop.
    Cancels,
}

impl Topic {
    /// All topics. Servers tell each other of them by their places here: new ones are added at the end.
    pub const ALL: [Self; 5] = [Self::Runs, Self::Deliveries, Self::Crons, Self::Recoveries, Self::Cancels];
}

/// What is known when a run's stream closes.
#[derive(Clone, Debug, Default)]
pub struct Closing {
    /// What `wait` answers. None when the run was rolled back or handed to another server.
    pub result: Option<Bytes>,
}

/// One step of a subscription.
#[derive(Clone, Debug)]
pub enum Received {
    /// Events in order, without gaps; the id is that of the first, and they count up by one.
    Events(EventId, Vec<StreamEvent>),
    /// The reader fell so far behind that events are gone; it has to come back with the last id it saw.
    Lagged,
    /// The run has ended and everything was read.
    Closed(Closing),
}

/// From where to read a run's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Only what comes from now on.
    Now,
    /// Everything since the stream was opened.
    Start,
}

/// Carries a run's events to its readers, and wakes loops. Several servers may share one: what one of them says,
/// readers at all of them hear.
#[async_trait]
pub trait EventBus: Send + Sync {
    /// Opens a run's stream for this server to speak in, unless it is open, and says which id comes next.
    fn open(&self, run: RunId, thread: ThreadId) -> EventId;
    /// Opens a run's stream, unless it is open, for a reader of what whichever server executes the run will say.
    fn follow(&self, run: RunId, thread: ThreadId, from: From) -> Box<dyn Subscription>;
    /// An attempt that opened a run's stream says no more; the run goes on, and another server may speak next.
    fn hand_over(&self, run: RunId);
    /// Learns of the runs of a thread that say their first word from now on.
    fn watch(&self, thread: ThreadId) -> Box<dyn ThreadWatch>;
    /// Adds events to the end of a run's stream. Where the first does not follow on the last, readers that are behind lag.
    fn append(&self, run: RunId, first: EventId, events: Vec<StreamEvent>);
    /// Reads a run's stream, or `None` when it is not open.
    fn subscribe(&self, run: RunId, from: From) -> Option<Box<dyn Subscription>>;
    /// Ends a run's stream.
    fn close(&self, run: RunId, closing: Closing);
    /// The runs that are followed here and of which no server has said anything for some time: only storage knows
    /// whether they have ended.
    fn unheard(&self) -> Vec<RunId>;
    /// Wakes whoever waits for the topic at this server.
    fn wake(&self, topic: Topic);
    /// Wakes whoever waits for the topic at other servers.
    fn wake_others(&self, topic: Topic);
    /// Registers interest in a topic now, and resolves at the first wake after that.
    fn woken(&self, topic: Topic) -> Wake;
}

/// Hears of a thread's runs.
#[async_trait]
pub trait ThreadWatch: Send {
    /// Waits for the next run that begins to speak, and hands over a reader at its start: who is slow misses nothing.
    async fn next(&mut self) -> (RunId, Box<dyn Subscription>);
}

/// Resolves at a wake.
pub type Wake = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// A reader's place in a run's stream.
#[async_trait]
pub trait Subscription: Send {
    /// Waits for what comes next.
    async fn next(&mut self) -> Received;
}
