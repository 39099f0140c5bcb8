//! The engine with real storage and a runtime that the test plays.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod api_keys;
mod attempts;
mod cancel;
mod crons;
mod encryption;
mod event_streaming;
mod limits;
mod own_app;
mod races;
mod replicas;
mod restarts;
mod runs;
mod streams;
mod thread_stream;
mod tokens;
mod traces;
mod webhooks;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use threadyard_backends::{LocalBus, LocalBusConfig, SqliteStorage};
use threadyard_core::webhook_policy::{WebhookHeaders, WebhookPolicy};
use threadyard_core::{
    ambient::Ambient,
    bus::{EventBus, Topic},
    ids::{RunId, ThreadId},
    items::ItemTtl,
    json::{Object, raw},
    limits::RunLimits,
    retention::DeliveryTimes,
    runs::{Run, RunStatus},
    storage::Storage,
    testkit::{ManualClock, ScriptedRuntime, ambient},
    threads::ThreadStatus,
};
use threadyard_engine::{
    CheckpointRef, Engine, Faults, Parts, Role, RunRequest, RunStream, Settings, StartedRun, Sweep, ThreadChoice,
    ThreadRequest, Traces,
};

/// Longer than anything here takes, however busy the machine is.
const SOON: Duration = Duration::from_mins(2);

struct Stage {
    engine: Engine,
    runtime: Arc<ScriptedRuntime>,
    storage: Arc<dyn Storage>,
    bus: Arc<dyn EventBus>,
    clock: Arc<ManualClock>,
    _folder: TempDir,
}

impl Stage {
    async fn set() -> Self {
        Self::set_with(|_| {}).await
    }

    async fn set_with(change: impl FnOnce(&mut Settings)) -> Self {
        let (storage, folder) = storage();
        Self::set_on(storage, folder, LocalBusConfig::default(), change).await
    }

    async fn set_with_bus(bus: LocalBusConfig) -> Self {
        let (storage, folder) = storage();
        Self::set_on(storage, folder, bus, |_| {}).await
    }

    async fn set_on(
        storage: Arc<dyn Storage>,
        folder: TempDir,
        bus: LocalBusConfig,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let (ambient, clock) = ambient();
        let bus = Arc::new(LocalBus::new(bus, ambient.clone()));
        Self::set_among(storage, folder, bus, (ambient, clock), change).await
    }

    /// Sets a stage that shares all this with others.
    async fn set_among(
        storage: Arc<dyn Storage>,
        folder: TempDir,
        bus: Arc<dyn EventBus>,
        (ambient, clock): (Ambient, Arc<ManualClock>),
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        Self::set_from((storage, folder), bus, (ambient, clock), |parts| change(&mut parts.settings)).await
    }

    /// The same, with whatever else an engine is made of.
    async fn set_from(
        (storage, folder): (Arc<dyn Storage>, TempDir),
        bus: Arc<dyn EventBus>,
        (ambient, clock): (Ambient, Arc<ManualClock>),
        change: impl FnOnce(&mut Parts),
    ) -> Self {
        let settings = Settings {
            concurrency: 4,
            run_limits: RunLimits::default(),
            run_timeout: Duration::from_mins(1),
            stop_within: Duration::from_secs(10),
            decrypt_within: Duration::from_secs(20),
            max_attempts: 3,
            // Longer than clocks are moved while a run goes on: only leases of servers that died end.
            lease: Duration::from_mins(30),
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
        let runtime = ScriptedRuntime::in_two_languages();
        let mut parts = Parts {
            storage: storage.clone(),
            bus: bus.clone(),
            runtime: runtime.clone(),
            own_app: None,
            ambient,
            traces: Traces::default(),
            settings,
        };
        change(&mut parts);
        let engine = Engine::start(parts).await.unwrap();
        Self { engine, runtime, storage, bus, clock, _folder: folder }
    }

    /// Moves the clock, and wakes the loops, which otherwise look at it when real time has passed.
    fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.bus.wake(Topic::Runs);
        self.bus.wake(Topic::Deliveries);
        self.bus.wake(Topic::Crons);
        // As the loop of leases calls it, which otherwise looks four times in a lease.
        self.bus.wake(Topic::Cancels);
    }

    async fn thread(&self) -> ThreadId {
        self.engine.create_thread(ThreadRequest::default(), false).await.unwrap().thread_id
    }

    /// Creates a run on a thread of its own.
    async fn run(&self) -> StartedRun {
        let thread = self.thread().await;
        self.run_on(thread, request()).await
    }

    async fn run_on(&self, thread: ThreadId, request: RunRequest) -> StartedRun {
        self.engine.create_run(request, ThreadChoice::Existing(thread, false)).await.unwrap()
    }

    async fn result(&self, started: StartedRun) -> Value {
        let StartedRun { run, stream } = started;
        let result = tokio::time::timeout(SOON, self.engine.wait_for(run.thread_id, run.run_id, stream)).await;
        json_of(&result.unwrap().unwrap())
    }

    async fn status(&self, run: &Run) -> RunStatus {
        self.engine.run(run.thread_id, run.run_id).await.unwrap().status
    }

    async fn thread_status(&self, thread: ThreadId) -> ThreadStatus {
        self.engine.thread(thread).await.unwrap().status
    }

    /// Waits until a run has this status.
    async fn until(&self, thread: ThreadId, run: RunId, status: RunStatus) {
        let reached = async {
            while self.engine.run(thread, run).await.unwrap().status != status {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, reached).await.unwrap_or_else(|_| panic!("the run did not become {status:?}"));
    }
}

fn storage() -> (Arc<dyn Storage>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(SqliteStorage::open(folder.path()).unwrap());
    (storage, folder)
}

fn request() -> RunRequest {
    RunRequest {
        assistant: "echo".into(),
        input: Some(raw(&json!({ "x": 1 }))),
        command: None,
        checkpoint: CheckpointRef::default(),
        metadata: Object::new(),
        config: Object::new(),
        context: Object::new(),
        webhook: None,
        interrupt_before: None,
        interrupt_after: None,
        stream_mode: Vec::new(),
        stream_subgraphs: false,
        stream_resumable: false,
        feedback_keys: None,
        multitask_strategy: threadyard_core::runs::MultitaskStrategy::default(),
        after: Duration::ZERO,
        durability: threadyard_core::runs::Durability::default(),
        cron_id: None,
        push_target: None,
        of_request: Object::new(),
        event_streaming: false,
        strict_resume: false,
    }
}

fn json_of(bytes: &Bytes) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Everything that a stream says, to its end.
async fn read(mut stream: RunStream) -> Vec<(String, Value)> {
    let all = async {
        let mut read = Vec::new();
        while let Some((_, events)) = stream.next().await {
            read.extend(events.into_iter().map(|event| (event.name.to_string(), json_of(&event.data))));
        }
        read
    };
    tokio::time::timeout(SOON, all).await.unwrap()
}
