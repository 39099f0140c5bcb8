//! What every event bus must do, for readers where a run is said and for readers at another replica; and what happens
//! when the wire between replicas loses, delays or breaks.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod contract;
mod holders;
mod losses;
mod outages;
mod replicas;
#[path = "../postgres/server.rs"]
mod server;
mod servers;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use threadyard_backends::{LocalBus, LocalBusConfig, MemoryNet, PostgresConfig, SharedBus, SharedBusConfig};
use threadyard_core::{
    ambient::Ambient,
    bus::{Closing, EventBus, From, Received, Subscription},
    ids::{RunId, ThreadId},
    stream::{EventId, StreamEvent},
    testkit::ambient,
};
use uuid::Uuid;

use self::servers::{RedisServer, database, prefix};

/// So long a test waits for what must come.
const PATIENCE: Duration = Duration::from_mins(2);

/// Where runs are said, and where they are read.
struct Buses {
    holder: Arc<dyn EventBus>,
    reader: Arc<dyn EventBus>,
    /// Lives as long as it is needed.
    _server: Option<RedisServer>,
}

/// So many replicas of one server, on a wire that the test plays with.
async fn replicas<const N: usize>(config: SharedBusConfig) -> (MemoryNet, [Arc<dyn EventBus>; N]) {
    let (net, ambient) = (MemoryNet::default(), ambient().0);
    let replicas: [Arc<dyn EventBus>; N] = std::array::from_fn(|_| Arc::new(net.join(config, ambient.clone())) as _);
    for other in &replicas[1..] {
        hear(other.as_ref(), replicas[0].as_ref()).await;
        hear(replicas[0].as_ref(), other.as_ref()).await;
    }
    (net, replicas)
}

/// What connects replicas.
#[derive(Clone, Copy)]
enum Kind {
    Local,
    Memory,
    Redis,
    Postgres,
}

/// A bus, and whether it is read where runs are said or at another replica.
#[derive(Clone, Copy)]
struct Setup {
    kind: Kind,
    across: bool,
}

impl Setup {
    async fn buses(self, max_bytes: usize) -> Buses {
        let (ambient, local) = (ambient().0, LocalBusConfig { max_bytes });
        let config = SharedBusConfig { local, ..SharedBusConfig::default() };
        let mut server = None;
        let make: Box<dyn Fn() -> Arc<dyn EventBus>> = match self.kind {
            Kind::Local => Box::new(|| Arc::new(LocalBus::new(local, ambient.clone()))),
            Kind::Memory => {
                let net = MemoryNet::default();
                let ambient = ambient.clone();
                Box::new(move || Arc::new(net.join(config, ambient.clone())))
            }
            Kind::Redis => {
                let (redis, prefix) = (server.insert(RedisServer::find().await).uri.clone(), prefix());
                let ambient = ambient.clone();
                Box::new(move || Arc::new(servers::over_redis(&redis, &prefix, config, &ambient)))
            }
            Kind::Postgres => {
                let (database, prefix) = (database(), prefix());
                let ambient = ambient.clone();
                Box::new(move || Arc::new(over_postgres(&database, &prefix, config, &ambient)))
            }
        };
        let (holder, other) = (make(), make());
        if !matches!(self.kind, Kind::Local) {
            // Both are connected by then.
            hear(holder.as_ref(), other.as_ref()).await;
            hear(other.as_ref(), holder.as_ref()).await;
        }
        let reader = if self.across { other } else { holder.clone() };
        Buses { holder, reader, _server: server }
    }
}

fn over_postgres(database: &PostgresConfig, prefix: &str, config: SharedBusConfig, ambient: &Ambient) -> SharedBus {
    SharedBus::over_postgres(database.clone(), prefix, config, ambient.clone())
}

impl Buses {
    /// Waits until the holder knows everything that the reader asked for.
    async fn settled(&self) {
        if !Arc::ptr_eq(&self.holder, &self.reader) {
            hear(self.holder.as_ref(), self.reader.as_ref()).await;
        }
    }

    /// An attempt of the first run begins.
    fn speaker(&self) -> Speaker {
        Speaker::open(&self.holder, 1)
    }

    /// Reads the run from its start, wherever it is said.
    fn follow(&self, from: From) -> Box<dyn Subscription> {
        self.reader.follow(run(1), thread(1), from)
    }
}

/// Waits until `hears` has heard everything that `asks` has asked for.
async fn hear(hears: &dyn EventBus, asks: &dyn EventBus) {
    static FRESH: AtomicU64 = AtomicU64::new(1_000);
    let wait = async {
        // What was asked for too late to be heard is asked for again; on a busy machine an answer takes longer.
        let mut patience = Duration::from_millis(200);
        loop {
            let fresh = run(FRESH.fetch_add(1, Ordering::SeqCst));
            let asked = asks.follow(fresh, thread(1_000), From::Now);
            hears.close(fresh, Closing { result: Some(Bytes::new()) });
            if let Ok(heard) = tokio::time::timeout(patience, read(asked)).await {
                assert!(heard.result.is_some());
                return;
            }
            patience *= 2;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the replicas do not hear each other");
}

fn events(names: &[&str]) -> Vec<StreamEvent> {
    names.iter().map(|name| StreamEvent { name: (*name).into(), data: Bytes::from_static(b"{}") }).collect()
}

/// An attempt of a run.
struct Speaker {
    bus: Arc<dyn EventBus>,
    run: RunId,
    next: EventId,
}

impl Speaker {
    /// Opens the stream of a run of the first thread.
    fn open(bus: &Arc<dyn EventBus>, n: u64) -> Self {
        Self { bus: bus.clone(), run: run(n), next: bus.open(run(n), thread(1)) }
    }

    /// One whose events have ids of their own.
    fn at(self, next: EventId) -> Self {
        Self { next, ..self }
    }

    fn say(&mut self, names: &[&str]) {
        let first = self.next;
        self.next.seq += names.len() as u64;
        self.bus.append(self.run, first, events(names));
    }

    fn hand_over(self) {
        self.bus.hand_over(self.run);
    }

    fn close(self, result: Option<&'static str>) {
        self.bus.close(self.run, Closing { result: result.map(Bytes::from) });
    }
}

/// What a reader heard up to the end.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    names: Vec<String>,
    last: Option<EventId>,
    /// Whether it was told that it lags; it does not read on then.
    lagged: bool,
    result: Option<Bytes>,
}

/// Reads to the end.
async fn read(mut reader: Box<dyn Subscription>) -> Heard {
    let mut heard = Heard { names: Vec::new(), last: None, lagged: false, result: None };
    loop {
        match next(&mut reader).await {
            Received::Events(first, events) => {
                heard.last = Some(EventId { seq: first.seq + events.len() as u64 - 1, ..first });
                heard.names.extend(events.into_iter().map(|event| event.name.to_string()));
            }
            Received::Lagged => return Heard { lagged: true, ..heard },
            Received::Closed(closing) => return Heard { result: closing.result, ..heard },
        }
    }
}

/// Waits for what comes next, but not for ever.
async fn next(reader: &mut Box<dyn Subscription>) -> Received {
    tokio::time::timeout(PATIENCE, reader.next()).await.expect("nothing is heard")
}

/// Waits for so many events, and says their names.
async fn some(reader: &mut Box<dyn Subscription>, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    while names.len() < count {
        match next(reader).await {
            Received::Events(_, events) => names.extend(events.into_iter().map(|event| event.name.to_string())),
            other => panic!("{other:?} behind {names:?}"),
        }
    }
    names
}

fn thread(n: u64) -> ThreadId {
    ThreadId(Uuid::from_u64_pair(1, n))
}

fn run(n: u64) -> RunId {
    RunId(Uuid::from_u64_pair(2, n))
}
