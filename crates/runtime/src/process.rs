//! The runtime made of worker processes: a generation of them serves, dead ones are replaced, changed code makes a new
//! generation.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use threadyard_core::{
    ambient::Ambient,
    items::ToEmbed,
    json::RawJson,
    runtime::{GraphCall, GraphError, GraphInfo, GraphRuntime, RunJob, RunSession, RuntimeError},
    storage::Storage,
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    callbacks::Callbacks,
    embedded, environment,
    launch::python::Interpreter,
    project::Project,
    protocol::{Load, LoadGraph, Ready, StoreIndex, StoreTtl},
    session::OwnWorker,
    watch::Watch,
    worker::{Origin, Start, Worker},
    zygote::{Launch, Zygote},
};

/// The grace of workers with old code: their runs end with the code they began with.
const UNTIL_THEY_END: Duration = Duration::from_hours(24 * 365);

/// How the runtime is set up.
#[derive(Clone, Debug)]
pub struct ProcessRuntimeConfig {
    /// The project.
    pub project: Project,
    /// What runs its code.
    pub interpreter: Interpreter,
    /// Where files are kept between starts.
    pub cache: PathBuf,
    /// How many worker processes there are.
    pub workers: u32,
    /// How many runs each executes at once.
    pub concurrency: u32,
    /// Whether workers are forked from a warm process where that is safe.
    pub fork: bool,
    /// Whether changed code is loaded.
    pub reload: bool,
}

/// Executes graphs in worker processes.
pub struct ProcessRuntime {
    config: ProcessRuntimeConfig,
    launch: Launch,
    origin: Origin,
    callbacks: Callbacks,
    generation: RwLock<Arc<Generation>>,
    /// Told when workers come.
    changed: Notify,
    stopping: CancellationToken,
}

/// Workers that loaded the same code.
struct Generation {
    workers: RwLock<Vec<Arc<Worker>>>,
    failures: BTreeMap<String, GraphError>,
    revision: String,
    /// Cancelled when another generation has taken over.
    retired: CancellationToken,
}

impl Generation {
    /// Puts a new worker in the place of a dead one, unless it is too late: whoever retires a generation stops the
    /// workers that are in it then, and no others.
    fn exchange(&self, dead: &Arc<Worker>, new: &Arc<Worker>, stopping: &CancellationToken) -> bool {
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|known| !Arc::ptr_eq(known, dead));
        let in_time = !self.retired.is_cancelled() && !stopping.is_cancelled();
        if in_time {
            workers.push(new.clone());
        }
        in_time
    }
}

impl ProcessRuntime {
    /// Starts the workers; returns when they have loaded the graphs. Graphs that can't be loaded don't prevent it.
    pub async fn start(
        config: ProcessRuntimeConfig,
        storage: Arc<dyn Storage>,
        ambient: Ambient,
    ) -> Result<Arc<Self>, RuntimeError> {
        let failed = |error: &dyn std::fmt::Display| RuntimeError::Unavailable(error.to_string());
        let launch = Launch {
            package: embedded::extract(&config.cache).map_err(|error| failed(&error))?,
            env: environment::additions(&config.project).map_err(|error| failed(&error))?,
            folder: config.project.folder.clone(),
            interpreter: config.interpreter.clone(),
        };
        let index = config.project.item_index.clone();
        let callbacks = Callbacks { storage, index, ambient, tasks: TaskTracker::new() };
        let origin = origin(&config, &launch, &callbacks.tasks).await;
        let first = load(&config, &launch, &origin, &callbacks).await?;
        let runtime = Arc::new(Self {
            config,
            launch,
            origin,
            callbacks,
            generation: RwLock::new(first.clone()),
            changed: Notify::new(),
            stopping: CancellationToken::new(),
        });
        runtime.keep_full(&first);
        if runtime.config.reload {
            let project = runtime.config.project.folder.as_path();
            let others = runtime.config.interpreter.imports.iter().map(PathBuf::as_path);
            let others = others.filter(|folder| !folder.starts_with(project));
            let watch = Watch::start([project].into_iter().chain(others)).map_err(|error| failed(&error))?;
            runtime.callbacks.tasks.spawn(reload(runtime.clone(), watch));
        }
        Ok(runtime)
    }

    fn generation(&self) -> Arc<Generation> {
        self.generation.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces every worker of a generation that dies.
    fn keep_full(self: &Arc<Self>, generation: &Arc<Generation>) {
        let workers = generation.workers.read().unwrap_or_else(PoisonError::into_inner).clone();
        for worker in workers {
            self.callbacks.tasks.spawn(replace_when_gone(self.clone(), generation.clone(), worker));
        }
    }

    /// The worker with the fewest runs, waiting for one if all have died.
    async fn worker(&self) -> Result<Arc<Worker>, RuntimeError> {
        let deadline = tokio::time::sleep(Duration::from_secs(30));
        tokio::pin!(deadline);
        loop {
            let changed = self.changed.notified();
            let generation = self.generation();
            let least = {
                let workers = generation.workers.read().unwrap_or_else(PoisonError::into_inner);
                let open = workers.iter().filter(|worker| worker.connection.is_open() && !worker.stuck.is_cancelled());
                open.min_by_key(|worker| worker.connection.runs()).cloned()
            };
            if let Some(worker) = least {
                return Ok(worker);
            }
            tokio::select! {
                () = changed => {}
                () = &mut deadline => return Err(RuntimeError::Unavailable("none could be started for 30 s".into())),
                () = self.stopping.cancelled() => return Err(RuntimeError::Unavailable("the server stops".into())),
            }
        }
    }

    /// Begins a run on a worker that is there for nothing else.
    async fn start_alone(&self, job: &RunJob) -> Result<Box<dyn RunSession>, RuntimeError> {
        tracing::warn!(run_id = %job.run_id(), "the run gets a worker of its own, since workers died that it shared");
        let worker = start_worker(&self.config, &self.launch, &self.origin, &self.callbacks).await?;
        let own = OwnWorker { worker: worker.clone(), tasks: self.callbacks.tasks.clone() };
        let mut session = worker.run(job)?;
        session.own = Some(own);
        Ok(Box::new(session))
    }

    fn check(&self, graph: &str) -> Result<(), RuntimeError> {
        if let Some(error) = self.generation().failures.get(graph) {
            return Err(RuntimeError::BrokenGraph { graph: graph.into(), error: error.clone() });
        }
        if self.config.project.graphs.iter().any(|known| known.id == graph) {
            return Ok(());
        }
        Err(RuntimeError::UnknownGraph(graph.into()))
    }
}

#[async_trait]
impl GraphRuntime for ProcessRuntime {
    fn graphs(&self) -> Vec<GraphInfo> {
        let generation = self.generation();
        let info = |graph: &crate::project::Graph| GraphInfo {
            id: graph.id.clone(),
            description: graph.description.clone(),
            failure: generation.failures.get(&graph.id).cloned(),
        };
        self.config.project.graphs.iter().map(info).collect()
    }

    fn revision(&self) -> String {
        self.generation().revision.clone()
    }

    fn slots(&self) -> u32 {
        self.config.workers * self.config.concurrency
    }

    async fn start(&self, job: RunJob) -> Result<Box<dyn RunSession>, RuntimeError> {
        self.check(&job.graph_id)?;
        if job.alone {
            return self.start_alone(&job).await;
        }
        let worker = self.worker().await?;
        Ok(Box::new(worker.run(&job)?))
    }

    async fn call(&self, call: GraphCall) -> Result<RawJson, RuntimeError> {
        self.check(&call.graph_id)?;
        let worker = self.worker().await?;
        worker.call(&call).await
    }

    async fn embed(&self, texts: ToEmbed) -> Result<Vec<Vec<f32>>, RuntimeError> {
        let worker = self.worker().await?;
        worker.embed(&texts).await
    }

    async fn shutdown(&self, grace: Duration) {
        self.stopping.cancel();
        let generation = self.generation();
        stop_all(&generation, grace).await;
    }
}

async fn origin(config: &ProcessRuntimeConfig, launch: &Launch, tasks: &TaskTracker) -> Origin {
    if !config.fork {
        return Origin::Exec;
    }
    match Zygote::start(launch, tasks).await {
        Ok(Some(zygote)) => Origin::Zygote(zygote),
        Ok(None) => Origin::Exec,
        Err(error) => {
            tracing::warn!(%error, "no process to fork workers from; starting each by itself");
            Origin::Exec
        }
    }
}

/// Starts a full set of workers with the code as it is now.
async fn load(
    config: &ProcessRuntimeConfig,
    launch: &Launch,
    origin: &Origin,
    callbacks: &Callbacks,
) -> Result<Arc<Generation>, RuntimeError> {
    let started = tokio::time::Instant::now();
    let mut workers = Vec::new();
    for _ in 0..config.workers.max(1) {
        workers.push(start_worker(config, launch, origin, callbacks).await?);
    }
    let ready = &workers[0].ready;
    let failures: BTreeMap<_, _> =
        ready.graphs.iter().filter_map(|(id, graph)| Some((id.clone(), graph.error.clone()?))).collect();
    for (graph, error) in &failures {
        let traceback = error.traceback.as_deref().unwrap_or(&error.message);
        tracing::error!(graph, "the graph could not be loaded; the others are served\n{traceback}");
    }
    let took_ms = started.elapsed().as_millis();
    tracing::info!(workers = workers.len(), graphs = ready.graphs.len(), took_ms, "workers ready");
    let (revision, broken_index) = (ready.revision.clone(), broken_index(config, ready));
    let generation =
        Generation { workers: RwLock::new(workers), failures, revision, retired: CancellationToken::new() };
    match broken_index {
        None => Ok(Arc::new(generation)),
        // Without its index, the store would take items that are never found again.
        Some(error) => {
            stop_all(&generation, Duration::ZERO).await;
            Err(error)
        }
    }
}

/// Why items could not be found by their meaning, if the project wants that.
fn broken_index(config: &ProcessRuntimeConfig, ready: &Ready) -> Option<RuntimeError> {
    let index = config.project.item_index.as_ref()?;
    let GraphError { error, message, .. } = ready.store_index.as_ref()?.error.as_ref()?;
    let why = format!("store.index.embed: `{}` could not be loaded: {error}: {message}", index.embed);
    Some(RuntimeError::Unavailable(why))
}

async fn start_worker(
    config: &ProcessRuntimeConfig,
    launch: &Launch,
    origin: &Origin,
    callbacks: &Callbacks,
) -> Result<Arc<Worker>, RuntimeError> {
    let graphs = config.project.graphs.iter();
    let load = Load {
        proto: 0,
        project: config.project.folder.display().to_string(),
        graphs: graphs.map(|graph| (graph.id.clone(), LoadGraph { path: graph.path.clone() })).collect(),
        concurrency: config.concurrency,
        store_ttl: StoreTtl::of(config.project.item_ttl),
        store_index: config.project.item_index.as_ref().map(StoreIndex::of),
        imports: config.interpreter.imports.iter().map(|folder| folder.display().to_string()).collect(),
    };
    let token = callbacks.ambient.random().simple().to_string();
    Worker::start(Start { launch, origin: origin.clone(), load, callbacks: callbacks.clone(), token }).await
}

async fn replace_when_gone(runtime: Arc<ProcessRuntime>, generation: Arc<Generation>, mut worker: Arc<Worker>) {
    loop {
        tokio::select! {
            () = worker.gone.cancelled() => tracing::warn!("a worker is gone; starting another"),
            () = worker.stuck.cancelled() => tracing::warn!("a run on a worker does not stop; starting another worker"),
            () = generation.retired.cancelled() => return,
            () = runtime.stopping.cancelled() => return,
        }
        let mut pause = Duration::from_millis(50);
        let new = loop {
            match start_worker(&runtime.config, &runtime.launch, &runtime.origin, &runtime.callbacks).await {
                Ok(new) => break new,
                Err(error) => tracing::error!(%error, "a worker could not be replaced; trying again"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(10)),
                () = generation.retired.cancelled() => return,
                () = runtime.stopping.cancelled() => return,
            }
        };
        if !generation.exchange(&worker, &new, &runtime.stopping) {
            new.stop(Duration::ZERO).await;
            return;
        }
        worker = new;
        runtime.changed.notify_waiters();
    }
}

/// Loads the code anew whenever it changes. While it can't be loaded, what was loaded before goes on serving.
async fn reload(runtime: Arc<ProcessRuntime>, mut watch: Watch) {
    loop {
        tokio::select! {
            change = watch.changed() => if change.is_none() { return },
            () = runtime.stopping.cancelled() => return,
        }
        let loaded = load(&runtime.config, &runtime.launch, &runtime.origin, &runtime.callbacks).await;
        let old = runtime.generation();
        match loaded {
            Ok(new) if new.failures.keys().any(|graph| !old.failures.contains_key(graph)) => {
                tracing::warn!("the changed code breaks a graph that worked; going on with what was loaded before");
                stop_all(&new, Duration::ZERO).await;
            }
            Ok(new) if new.revision == old.revision && new.failures == old.failures => {
                stop_all(&new, Duration::ZERO).await;
            }
            Ok(new) => {
                tracing::info!("the code has changed; new runs use it");
                *runtime.generation.write().unwrap_or_else(PoisonError::into_inner) = new.clone();
                runtime.keep_full(&new);
                old.retired.cancel();
                runtime.callbacks.tasks.spawn(async move { stop_all(&old, UNTIL_THEY_END).await });
            }
            Err(error) => {
                tracing::error!(%error, "the changed code can't be loaded; going on with what was loaded before");
            }
        }
    }
}

async fn stop_all(generation: &Generation, grace: Duration) {
    generation.retired.cancel();
    let workers = generation.workers.read().unwrap_or_else(PoisonError::into_inner).clone();
    futures_util::future::join_all(workers.iter().map(|worker| worker.stop(grace))).await;
}
