//! The engine: what every use case and loop works with.

use std::{sync::Arc, time::Duration};

use threadyard_core::{
    ambient::Ambient,
    assistants::Assistant,
    bus::{EventBus, Topic},
    ids::{AssistantId, RunId},
    items::{ItemIndex, ItemTtl},
    json::{Object, Value},
    limits::RunLimits,
    own_app::OwnApp,
    retention::{DeliveryTimes, ThreadTtl},
    runtime::{GraphRuntime, StopReason},
    storage::Storage,
    time::Timestamp,
    trace_context::TraceContext,
    webhook_keys::{MasterKey, WebhookKey},
    webhook_pace::WebhookPace,
    webhook_policy::{WebhookHeaders, WebhookPolicy},
};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Error, Faults, Result, Role,
    access::Access,
    loops,
    metrics::Metrics,
    outbox::Outbox,
    role::{Reach, Share},
    running::RunningRuns,
    signing::{Signer, new_master},
    slots::Slots,
    traces::Traces,
    webhook_client::WebhookClient,
};

/// What the engine is built from.
pub struct Parts {
    /// Facts.
    pub storage: Arc<dyn Storage>,
    /// Live events and hints.
    pub bus: Arc<dyn EventBus>,
    /// The user's graphs.
    pub runtime: Arc<dyn GraphRuntime>,
    /// The project's own application, where this server has it.
    pub own_app: Option<Arc<dyn OwnApp>>,
    /// Time and ids.
    pub ambient: Ambient,
    /// Where spans go.
    pub traces: Traces,
    /// What the operator chose.
    pub settings: Settings,
}

/// What the operator chose.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many runs are executed at once.
    pub concurrency: u32,
    /// How many runs of one user or assistant there may be.
    pub run_limits: RunLimits,
    /// How long a run may take.
    pub run_timeout: Duration,
    /// How long a run that was told to stop may take to obey.
    pub stop_within: Duration,
    /// How long an attempt waits until what users say in its run is decrypted.
    pub decrypt_within: Duration,
    /// How many attempts a run has when its process dies.
    pub max_attempts: u32,
    /// How long a lease lives without being renewed.
    pub lease: Duration,
    /// How long the events of a resumable run are kept when it has ended.
    pub events_kept: Duration,
    /// Whether the end of a run is told to its webhook.
    pub webhooks_enabled: bool,
    /// The key that webhooks are signed with; kept in storage and rotated there when nobody gives one.
    pub webhook_master: Option<MasterKey>,
    /// Where webhooks may go.
    pub webhook_policy: WebhookPolicy,
    /// What every delivery carries besides.
    pub webhook_headers: WebhookHeaders,
    /// How deliveries are sent.
    pub webhook_pace: WebhookPace,
    /// How long settled deliveries are kept.
    pub deliveries_kept: DeliveryTimes<Duration>,
    /// How long threads are kept, unless who makes them says otherwise.
    pub thread_ttl: Option<ThreadTtl>,
    /// How threads whose time is over are looked for.
    pub sweep: Sweep,
    /// How long store items are kept.
    pub item_ttl: ItemTtl,
    /// How items are found by their meaning, if they are.
    pub item_index: Option<ItemIndex>,
    /// How items whose time is over are looked for.
    pub item_sweep: Sweep,
    /// What this server does besides answering requests.
    pub role: Role,
    /// Where a test lets this process die.
    pub faults: Faults,
}

/// How often what is kept no longer is looked for, and how much of it at once.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// The time between two sweeps.
    pub every: Duration,
    /// How many are treated in one transaction.
    pub limit: u32,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { every: Duration::from_mins(5), limit: 1000 }
    }
}

/// All use cases, on somebody's behalf. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    access: Access,
    /// Where the request that it serves is found, if that is traced.
    pub(crate) trace: Option<Arc<TraceContext>>,
}

/// What the use cases share; only this crate sees inside.
pub struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) runtime: Arc<dyn GraphRuntime>,
    pub(crate) ambient: Ambient,
    pub(crate) settings: Settings,
    pub(crate) running: RunningRuns,
    /// How many more runs may be executed here.
    pub(crate) slots: Slots,
    /// Which receivers are sent to from here.
    pub(crate) reach: Option<Reach>,
    pub(crate) webhooks: WebhookClient,
    pub(crate) outbox: Outbox,
    pub(crate) signer: Signer,
    pub(crate) metrics: Metrics,
    pub(crate) traces: Traces,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when no new work is to begin.
    pub(crate) stopping: CancellationToken,
}

impl std::ops::Deref for Engine {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Engine {
    /// Builds the engine, registers the default assistants, and starts the loops.
    pub async fn start(parts: Parts) -> Result<Self> {
        let signer = Signer::new(keys(&parts).await?);
        let reach = parts.settings.role.reach(parts.own_app.is_some());
        let webhooks = WebhookClient::new(&parts.settings, parts.own_app)?;
        let outbox = Outbox::new(&parts.settings.webhook_pace, reach.unwrap_or(Reach::Others));
        let shared = Arc::new(Shared {
            storage: parts.storage,
            slots: Slots::new(if parts.settings.role.executes() { parts.settings.concurrency } else { 0 }),
            bus: parts.bus,
            runtime: parts.runtime,
            ambient: parts.ambient,
            settings: parts.settings,
            running: RunningRuns::default(),
            reach,
            webhooks,
            outbox,
            signer,
            metrics: Metrics::new(),
            traces: parts.traces,
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        });
        let engine = Self { shared, access: Access::Unrestricted, trace: None };
        engine.register_default_assistants().await?;
        loops::start(&engine);
        Ok(engine)
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.ambient.now()
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    pub(crate) fn with_access(&self, access: Access) -> Self {
        Self { access, ..self.clone() }
    }

    /// Stops: takes no new runs, lets running ones go on for `grace`, then hands them over to the next start.
    pub async fn stop(&self, grace: Duration) {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            self.running.drain();
            let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
        }
        self.runtime.shutdown(Duration::from_secs(2)).await;
    }

    /// Lets something go on after the request that began it; stopping waits for it.
    pub fn background<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.tasks.spawn(task)
    }

    /// Wakes the loop that looks after a topic; where none looks after all of it here, those of other servers.
    pub(crate) fn wake(&self, topic: Topic) {
        let stops = self.stopping.is_cancelled();
        let share = if stops { Share::Nothing } else { self.settings.role.share(topic, self.reach) };
        if share != Share::Nothing {
            self.bus.wake(topic);
        }
        if share != Share::All {
            self.bus.wake_others(topic);
        }
    }

    /// Tells a run that is executed to stop, wherever it is.
    pub(crate) fn tell_to_stop(&self, run_id: RunId, reason: StopReason) {
        if !self.running.stop(run_id, reason) {
            self.bus.wake_others(Topic::Cancels);
        }
    }

    async fn register_default_assistants(&self) -> Result<()> {
        let now = self.ambient.now();
        let mut metadata = Object::new();
        metadata.insert("created_by".into(), Value::from("system"));
        let of_graph = |graph: threadyard_core::runtime::GraphInfo| Assistant {
            assistant_id: AssistantId::of_graph(&graph.id),
            name: graph.id.clone(),
            graph_id: graph.id,
            config: Object::new(),
            context: Object::new(),
            metadata: metadata.clone(),
            created_at: now,
            updated_at: now,
            version: 1,
            description: graph.description,
        };
        let assistants = self.runtime.graphs().into_iter().map(of_graph).collect();
        self.storage.register_assistants(assistants).await.map_err(Error::from)
    }

    /// The ids of the project's graphs, as an error lists them.
    pub(crate) fn graph_ids(&self) -> String {
        let ids: Vec<_> = self.runtime.graphs().into_iter().map(|graph| graph.id).collect();
        ids.join(", ")
    }
}

/// The keys that webhooks are signed with: the given one, or those in storage.
async fn keys(parts: &Parts) -> Result<Vec<WebhookKey>> {
    let now = parts.ambient.now();
    match &parts.settings.webhook_master {
        Some(master) => Ok(vec![WebhookKey { version: 1, master: master.clone(), created_at: now, expires_at: None }]),
        None => Ok(parts.storage.webhook_keys(new_master(&parts.ambient), now).await?),
    }
}
