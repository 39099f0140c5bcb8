//! What an event costs that is read at another replica: `cargo bench -p threadyard-backends --bench bus [redis|postgres URI]`.
//!
//! Both replicas and their reader are in this process; the server between them is not counted.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use threadyard_backends::{
    LocalBus, LocalBusConfig, MemoryNet, PostgresConfig, RedisConfig, SharedBus, SharedBusConfig,
};
use threadyard_core::{
    ambient::Ambient,
    bus::{EventBus, From, Received, Subscription},
    ids::{RunId, ThreadId},
    stream::{EventId, StreamEvent},
};
use uuid::Uuid;

const EVENTS: u64 = 20_000;
const PACED: u64 = 1_000;
const PACE: Duration = Duration::from_millis(1);

/// Where events are said, and where they are read.
type Pair = [Arc<dyn EventBus>; 2];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let uris: Vec<String> = std::env::args().filter(|argument| argument.contains("://")).collect();
    println!("| wire | CPU per event in a burst, µs | CPU per event, one a ms, µs | latency p50, µs | p99, µs |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    runtime.block_on(async {
        let local: Arc<dyn EventBus> = Arc::new(LocalBus::new(LocalBusConfig::default(), Ambient::system()));
        measured("none: one replica", [local.clone(), local]).await;
        let shared = MemoryNet::default().join(SharedBusConfig::default(), Ambient::system());
        let shared: Arc<dyn EventBus> = Arc::new(shared);
        measured("none: one replica of several", [shared.clone(), shared]).await;
        let net = MemoryNet::default();
        measured("memory", pair(|| net.join(SharedBusConfig::default(), Ambient::system()))).await;
        for uri in uris {
            let name = uri.split(':').next().unwrap_or_default().to_owned();
            measured(&name, pair(|| over(&uri))).await;
        }
    });
}

fn pair(make: impl Fn() -> SharedBus) -> Pair {
    [Arc::new(make()), Arc::new(make())]
}

fn over(uri: &str) -> SharedBus {
    let (config, ambient) = (SharedBusConfig::default(), Ambient::system());
    if uri.starts_with("postgres") {
        return SharedBus::over_postgres(PostgresConfig::parse(uri).unwrap(), "bench:", config, ambient);
    }
    SharedBus::over_redis(RedisConfig::parse(uri, "bench:").unwrap(), config, ambient)
}

async fn measured(name: &str, [holder, reader]: Pair) {
    let (thread, data) = (ThreadId(Uuid::from_u128(1)), Bytes::from(vec![b'x'; 200]));
    let event = StreamEvent { name: "messages".into(), data };
    let mut says = Speaker { bus: holder, run: RunId(Uuid::from_u128(2)), next: EventId::START };
    let mut reads = reader.follow(says.run, thread, From::Start);
    says.next = says.bus.open(says.run, thread);
    // Everybody is connected when the first event has come.
    says.say(&event);
    next(&mut reads).await;

    let cpu = spent();
    let mut read = 0;
    for n in 1..=EVENTS {
        says.say(&event);
        // As far ahead as a worker gets that sends what it has in bulk.
        while n - read > 500 {
            read += next(&mut reads).await;
        }
    }
    while read < EVENTS {
        read += next(&mut reads).await;
    }
    let burst = micros(spent().saturating_sub(cpu)) / number(EVENTS);

    let cpu = spent();
    let mut took = Vec::new();
    for _ in 0..PACED {
        tokio::time::sleep(PACE).await;
        let said = Instant::now();
        says.say(&event);
        next(&mut reads).await;
        took.push(micros(said.elapsed()));
    }
    let paced = micros(spent().saturating_sub(cpu)) / number(PACED);
    took.sort_by(f64::total_cmp);
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("| {name} | {burst:.1} | {paced:.0} | {p50:.0} | {p99:.0} |");
}

struct Speaker {
    bus: Arc<dyn EventBus>,
    run: RunId,
    next: EventId,
}

impl Speaker {
    fn say(&mut self, event: &StreamEvent) {
        self.bus.append(self.run, self.next, vec![event.clone()]);
        self.next.seq += 1;
    }
}

/// Waits for events, and counts them.
async fn next(reader: &mut Box<dyn Subscription>) -> u64 {
    match tokio::time::timeout(Duration::from_secs(10), reader.next()).await.unwrap() {
        Received::Events(_, events) => events.len() as u64,
        other => panic!("{other:?}"),
    }
}

fn spent() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn number(count: u64) -> f64 {
    count as f64
}
