//! What delivering webhooks costs and withstands: `cargo bench -p threadyard-engine --bench webhooks [name …]`.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

mod receivers;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use receivers::{Heard, Manner};
use serde_json::json;
use threadyard_backends::{LocalBus, LocalBusConfig, SqliteStorage};
use threadyard_core::{
    ambient::Ambient,
    bus::{EventBus, Topic},
    ids::{LeaseId, RunId, ThreadId},
    items::ItemTtl,
    json::{Object, raw},
    retention::DeliveryTimes,
    runs::{ClaimRuns, EndStatus, Ending, Lease},
    storage::Storage,
    testkit::{ScriptedRuntime, new_run},
    webhook_policy::{WebhookHeaders, WebhookPolicy},
};
use threadyard_engine::{Engine, Faults, Parts, Role, Settings, Sweep, Traces};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if wants("throughput") {
        runtime.block_on(throughput());
    }
    if wants("latency") {
        runtime.block_on(latency());
    }
    if wants("isolation") {
        runtime.block_on(isolation());
    }
    if wants("answers") {
        runtime.block_on(answers());
    }
    runtime.shutdown_background();
}

/// Storage with runs that are about to end, and receivers of their webhooks.
struct Yard {
    storage: Arc<dyn Storage>,
    bus: Arc<dyn EventBus>,
    ambient: Ambient,
    heard: Heard,
    leases: Vec<Lease>,
    _tasks: TaskTracker,
    _folder: tempfile::TempDir,
}

impl Yard {
    /// Run number `n` tells receiver number `n`, counted around.
    async fn with(runs: u64, manners: &[Manner]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(SqliteStorage::open(folder.path()).unwrap());
        let ambient = Ambient::system();
        let bus: Arc<dyn EventBus> = Arc::new(LocalBus::new(LocalBusConfig::default(), ambient.clone()));
        let (tasks, heard) = (TaskTracker::new(), Heard::default());
        let mut urls = Vec::new();
        for manner in manners {
            urls.push(receivers::start(&tasks, *manner, &heard).await);
        }
        let now = ambient.now();
        for n in 0..runs {
            let (run, thread) = (RunId(Uuid::from_u64_pair(1, n)), ThreadId(Uuid::from_u64_pair(2, n)));
            let mut new = new_run(run, thread, now);
            new.create_thread = Some(Object::new());
            new.run.kwargs.webhook = Some(urls[usize::try_from(n).unwrap() % urls.len()].clone());
            storage.create_run(new).await.unwrap();
        }
        let (limit, until) = (u32::try_from(runs).unwrap(), now + Duration::from_hours(1));
        let claim = ClaimRuns { lease_id: LeaseId(ambient.random()), limit, now, until };
        let leases = storage.claim_runs(claim).await.unwrap().runs.into_iter().map(|claimed| claimed.lease).collect();
        Self { storage, bus, ambient, heard, leases, _tasks: tasks, _folder: folder }
    }

    async fn engine(&self) -> Engine {
        let settings = Settings {
            concurrency: 1,
            run_limits: threadyard_core::limits::RunLimits::default(),
            run_timeout: Duration::from_hours(1),
            stop_within: Duration::from_secs(10),
            decrypt_within: Duration::from_secs(20),
            max_attempts: 3,
            lease: Duration::from_hours(1),
            events_kept: Duration::from_mins(2),
            webhooks_enabled: true,
            webhook_master: None,
            webhook_policy: WebhookPolicy::development(),
            webhook_headers: WebhookHeaders::default(),
            webhook_pace: threadyard_core::webhook_pace::WebhookPace::production(),
            deliveries_kept: DeliveryTimes { body: Duration::from_hours(72), row: Duration::from_hours(720) },
            thread_ttl: None,
            sweep: Sweep::default(),
            item_ttl: ItemTtl::default(),
            item_index: None,
            item_sweep: Sweep::default(),
            role: Role::All,
            faults: Faults::new(None),
        };
        let (storage, bus, ambient) = (self.storage.clone(), self.bus.clone(), self.ambient.clone());
        Engine::start(Parts {
            storage,
            bus,
            runtime: ScriptedRuntime::start(),
            own_app: None,
            ambient,
            traces: Traces::default(),
            settings,
        })
        .await
        .unwrap()
    }

    /// Ends a run as the engine does; its delivery is about 2 kB long.
    async fn end(&self, lease: Lease) -> (String, Instant) {
        let values = Some(raw(&json!({ "text": "x".repeat(1_200) })));
        let at = self.ambient.now();
        let ending =
            Ending { status: EndStatus::Success, error: None, cause: None, values, thread: None, at, unsealed: false };
        self.storage.finish_run(lease, ending).await.unwrap();
        let committed = Instant::now();
        self.bus.wake(Topic::Deliveries);
        (format!("msg_{}_1", lease.run_id.0.simple()), committed)
    }

    async fn until_heard(&self, count: usize) {
        while self.heard.lock().unwrap().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Milliseconds from the commit to the receiver, sorted.
    fn waits(&self, committed: &HashMap<String, Instant>) -> Vec<f64> {
        let heard = self.heard.lock().unwrap();
        let wait = |(id, at): (&String, &Instant)| Some(heard.get(id)?.saturating_duration_since(*at));
        let mut waits: Vec<_> = committed.iter().filter_map(wait).map(|wait| wait.as_secs_f64() * 1e3).collect();
        waits.sort_by(f64::total_cmp);
        waits
    }
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100]
}

/// How fast a queue of deliveries is worked off.
async fn throughput() {
    for receivers in [1, 10] {
        let yard = Yard::with(20_000, &vec![Manner::Answers; receivers]).await;
        for lease in &yard.leases {
            yard.end(*lease).await;
        }
        let begin = Instant::now();
        let engine = yard.engine().await;
        yard.until_heard(yard.leases.len()).await;
        let rate = 20_000.0 / begin.elapsed().as_secs_f64();
        println!("throughput, 20,000 deliveries of 2 kB to {receivers} receivers: {rate:.0}/s");
        engine.stop(Duration::from_secs(5)).await;
    }
}

/// How soon a receiver hears of a run on an idle server.
async fn latency() {
    let yard = Yard::with(1_000, &[Manner::Answers]).await;
    let engine = yard.engine().await;
    let mut committed = HashMap::new();
    for lease in &yard.leases {
        let (id, at) = yard.end(*lease).await;
        committed.insert(id, at);
        yard.until_heard(committed.len()).await;
    }
    let waits = yard.waits(&committed);
    println!("latency, idle, ms: p50 {:.2}, p99 {:.2}", percentile(&waits, 50), percentile(&waits, 99));
    engine.stop(Duration::from_secs(5)).await;
}

/// What dead receivers cost the others: 10,000 deliveries to 100 receivers at 500 a second, each case three times.
async fn isolation() {
    let healthy = vec![Manner::Answers; 100];
    let mut some_dead = healthy.clone();
    for n in 0..10 {
        some_dead[n * 10] = if n % 2 == 0 { Manner::Refuses } else { Manner::Hangs };
    }
    let mut tails = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        for (case, manners) in [&healthy, &some_dead].into_iter().enumerate() {
            let yard = Arc::new(Yard::with(10_000, manners).await);
            let engine = yard.engine().await;
            let committed = offered(&yard, manners).await;
            let waits = yard.waits(&committed);
            assert_eq!(waits.len(), committed.len(), "a healthy receiver was not told everything");
            tails[case].push(percentile(&waits, 99));
            engine.stop(Duration::from_millis(100)).await;
        }
    }
    let [alone, beside] = tails.map(|mut tail| {
        tail.sort_by(f64::total_cmp);
        tail[tail.len() / 2]
    });
    println!(
        "isolation, p99 of healthy receivers, ms: {alone:.2} when all are, {beside:.2} when 10 of 100 are dead; ratio {:.2}",
        beside / alone
    );
}

/// Ends every run in its turn; when those were committed whose receivers are healthy.
async fn offered(yard: &Arc<Yard>, manners: &[Manner]) -> HashMap<String, Instant> {
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let mut ending = tokio::task::JoinSet::new();
    for (n, lease) in yard.leases.iter().enumerate() {
        ticks.tick().await;
        let (yard, lease, healthy) = (yard.clone(), *lease, manners[n % manners.len()] == Manner::Answers);
        ending.spawn(async move { (yard.end(lease).await, healthy) });
    }
    let ended = ending.join_all().await;
    let committed: HashMap<_, _> = ended.into_iter().filter(|(_, healthy)| *healthy).map(|(told, _)| told).collect();
    let all = async {
        while committed.keys().any(|id| !yard.heard.lock().unwrap().contains_key(id)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_mins(1), all).await;
    committed
}

/// What answers that never end cost: memory of each attempt, and how long it has its place.
async fn answers() {
    for manner in [Manner::Floods, Manner::Bombs, Manner::Headers, Manner::Redirects, Manner::Trickles] {
        let yard = Yard::with(64, &[manner; 8]).await;
        let before = resident();
        let begin = Instant::now();
        for lease in &yard.leases {
            yard.end(*lease).await;
        }
        let engine = yard.engine().await;
        let mut peak = before;
        let mut attempted = Vec::new();
        while begin.elapsed() < Duration::from_secs(45) && attempted.len() < 64 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            peak = peak.max(resident());
            attempted = first_attempts(&engine).await;
        }
        let slowest = attempted.iter().max().copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
        let grown = (peak - before) as f64 / 1024.0 / 64.0;
        println!("answers, {manner:?}: at most {grown:.2} MiB for each of 64 attempts, the longest took {slowest:.1?}");
        engine.stop(Duration::from_millis(100)).await;
    }
}

/// How long those first attempts took that have ended.
async fn first_attempts(engine: &Engine) -> Vec<Duration> {
    let mut took = Vec::new();
    for n in 0..64 {
        let id = format!("msg_{}_1", Uuid::from_u64_pair(1, n).simple());
        let Ok((_, attempts)) = engine.delivery(id).await else { continue };
        took.extend(attempts.first().and_then(|first| Some(first.ended_at?.since(first.started_at))));
    }
    took
}

/// The memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}
