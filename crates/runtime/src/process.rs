//! The runtime made of worker processes: a pool of them for each language, and some that serve other purposes.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use threadyard_core::{
    ambient::Ambient,
    items::ToEmbed,
    json::RawJson,
    runtime::{GraphCall, GraphInfo, GraphRuntime, Language, RunJob, RunSession, RuntimeError},
    storage::Storage,
    workers::Workers,
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{self, AuthConfig, CustomAuth},
    auxiliary::{self, Auxiliary, Purpose},
    callbacks::Callbacks,
    custom_app::{self, CustomApp, PassedOn, PassedOnReceiver},
    embedded,
    encryption::{self, CustomEncryption},
    environment, language,
    launch::{Interpreters, Launch, Program},
    load::{Load, LoadAuth, LoadGraph, StoreIndex, StoreTtl},
    pool::Pool,
    project::{Graph, Project},
    session::OwnWorker,
    ui::UiBundles,
    watch::{COMPONENTS, SOURCES, Watch},
    worker::Ground,
    zygote::origin,
};

/// How the runtime is set up.
#[derive(Clone, Debug)]
pub struct ProcessRuntimeConfig {
    /// The project.
    pub project: Project,
    /// Where its code finds the server.
    pub url: String,
    /// What runs its code.
    pub interpreters: Interpreters,
    /// Where files are kept between starts.
    pub cache: PathBuf,
    /// How many worker processes there are for each language.
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
    grounds: BTreeMap<Language, Ground>,
    pools: BTreeMap<Language, Arc<Pool>>,
    tasks: TaskTracker,
    ambient: Ambient,
    /// What serves other purposes beside the graphs.
    auxiliaries: RwLock<Vec<Arc<Auxiliary>>>,
    /// What the project's application passes on, until somebody answers it.
    passed_on: Mutex<Option<mpsc::UnboundedReceiver<PassedOn>>>,
    stopping: CancellationToken,
}

impl ProcessRuntime {
    /// Starts the workers; returns when they have loaded the graphs. Graphs that can't be loaded don't prevent it.
    pub async fn start(
        config: ProcessRuntimeConfig,
        storage: Arc<dyn Storage>,
        ambient: Ambient,
    ) -> Result<Arc<Self>, RuntimeError> {
        let index = config.project.item_index.clone();
        let (tell, passed_on) = mpsc::unbounded_channel();
        let tasks = TaskTracker::new();
        let callbacks = Callbacks { storage, index, ambient: ambient.clone(), tasks: tasks.clone(), passed_on: tell };
        let grounds = grounds(&config, &callbacks).await?;
        let mut pools = BTreeMap::new();
        for (language, ground) in &grounds {
            let load = graphs(&config, *language);
            if !load.graphs.is_empty() || load.store_index.is_some() {
                pools.insert(*language, Pool::start(ground.clone(), load, config.workers.max(1)).await?);
            }
        }
        let runtime = Arc::new(Self {
            config,
            grounds,
            pools,
            tasks,
            ambient,
            auxiliaries: RwLock::default(),
            passed_on: Mutex::new(Some(passed_on)),
            stopping: CancellationToken::new(),
        });
        if runtime.config.reload {
            runtime.tasks.spawn(reload(runtime.clone(), watch(&runtime.config.project, SOURCES)?));
        }
        Ok(runtime)
    }

    /// Starts the process that decides about access as the project's auth object says.
    pub async fn auth(&self, config: AuthConfig) -> Result<Arc<CustomAuth>, RuntimeError> {
        let load = Load { auth: Some(LoadAuth::of(&config)), ..nothing(&self.config) };
        let purpose = Purpose { name: "auth", load, objection: auth::objection };
        let process = self.auxiliary(language::of(&config.path), purpose).await?;
        Ok(Arc::new(CustomAuth::new(process, config.cache, self.ambient.clone())))
    }

    /// Starts the process that encrypts as the project's own handlers do.
    pub async fn encryption(&self, path: &str) -> Result<Arc<CustomEncryption>, RuntimeError> {
        let load = Load { encryption: Some(LoadGraph { path: path.to_owned() }), ..nothing(&self.config) };
        let purpose = Purpose { name: "encryption", load, objection: encryption::objection };
        let process = self.auxiliary(language::of(path), purpose).await?;
        Ok(Arc::new(CustomEncryption::new(process, &self.tasks)))
    }

    /// Starts the process that serves the project's HTTP application.
    ///
    /// What it has no route for is to be answered by whoever gets the receiver.
    pub async fn custom_app(&self, path: &str) -> Result<(Arc<CustomApp>, PassedOnReceiver), RuntimeError> {
        let passed_on = self.passed_on.lock().unwrap_or_else(PoisonError::into_inner).take();
        let purpose = custom_app::purpose(&self.config.project.http, path, nothing(&self.config));
        let app = CustomApp::new(self.auxiliary(language::of(path), purpose).await?);
        Ok((Arc::new(app), passed_on.ok_or_else(custom_app::served_twice)?))
    }

    /// Bundles the project's components, if it has any, and does so again when they change.
    pub async fn ui(&self) -> Result<Option<Arc<UiBundles>>, RuntimeError> {
        let ProcessRuntimeConfig { project, interpreters, cache, reload, .. } = &self.config;
        let Some(bundler) = interpreters.bundler.clone() else { return Ok(None) };
        // What changes while the bundles are made for the first time is seen, too.
        let watch = reload.then(|| watch(project, COMPONENTS)).transpose()?;
        let made = UiBundles::start(project, (bundler, cache), *reload).await?;
        if let Some(watch) = watch {
            self.tasks.spawn(made.clone().follow(watch, self.stopping.clone()));
        }
        Ok(Some(made))
    }

    /// Starts a process that serves another purpose than the graphs, for as long as the runtime lives.
    async fn auxiliary(&self, language: Language, purpose: Purpose) -> Result<Arc<Auxiliary>, RuntimeError> {
        let ground = self.grounds.get(&language);
        let ground =
            ground.ok_or_else(|| unavailable(&format!("the project has no {language} for its {}", purpose.name)))?;
        let auxiliary = Auxiliary::start(purpose, ground.clone()).await?;
        self.auxiliaries.write().unwrap_or_else(PoisonError::into_inner).push(auxiliary.clone());
        Ok(auxiliary)
    }

    fn auxiliaries(&self) -> Vec<Arc<Auxiliary>> {
        self.auxiliaries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins a run on a worker that is there for nothing else.
    async fn start_alone(&self, pool: &Pool, job: &RunJob) -> Result<Box<dyn RunSession>, RuntimeError> {
        tracing::warn!(run_id = %job.run_id(), "the run gets a worker of its own, since workers died that it shared");
        let worker = pool.own_worker().await?;
        let own = OwnWorker { worker: worker.clone(), tasks: self.tasks.clone() };
        let mut session = worker.run(job)?;
        session.own = Some(own);
        Ok(Box::new(session))
    }

    /// The pool that executes a graph, if the graph could be loaded.
    fn pool(&self, graph: &str) -> Result<&Arc<Pool>, RuntimeError> {
        let known = self.config.project.graphs.iter().find(|known| known.id == graph);
        let pool = known.and_then(|known| self.pools.get(&known.language()));
        let pool = pool.ok_or_else(|| RuntimeError::UnknownGraph(graph.into()))?;
        match pool.generation().failures.get(graph) {
            Some(error) => Err(RuntimeError::BrokenGraph { graph: graph.into(), error: error.clone() }),
            None => Ok(pool),
        }
    }
}

#[async_trait]
impl GraphRuntime for ProcessRuntime {
    fn graphs(&self) -> Vec<GraphInfo> {
        let failure = |graph: &Graph| {
            let pool = self.pools.get(&graph.language())?;
            pool.generation().failures.get(&graph.id).cloned()
        };
        let info = |graph: &Graph| GraphInfo {
            id: graph.id.clone(),
            language: graph.language(),
            description: graph.description.clone(),
            failure: failure(graph),
        };
        self.config.project.graphs.iter().map(info).collect()
    }

    fn revision(&self) -> String {
        let revisions: Vec<_> = self.pools.values().map(|pool| pool.generation().revision.clone()).collect();
        revisions.join("-")
    }

    fn slots(&self) -> u32 {
        self.config.workers * self.config.concurrency
    }

    fn workers(&self) -> Workers {
        let mut all = Workers::default();
        for pool in self.pools.values() {
            let Workers { processes, replaced } = pool.workers();
            all.processes.extend(processes);
            all.replaced += replaced;
        }
        all
    }

    async fn start(&self, job: RunJob) -> Result<Box<dyn RunSession>, RuntimeError> {
        let pool = self.pool(&job.graph_id)?;
        if job.alone {
            return self.start_alone(pool, &job).await;
        }
        Ok(Box::new(pool.worker().await?.run(&job)?))
    }

    async fn call(&self, call: GraphCall) -> Result<RawJson, RuntimeError> {
        self.pool(&call.graph_id)?.worker().await?.call(&call).await
    }

    async fn embed(&self, texts: ToEmbed) -> Result<Vec<Vec<f32>>, RuntimeError> {
        let pool = self.pools.values().find(|pool| pool.embeds());
        let pool = pool.ok_or_else(|| unavailable(&"the project has no `store.index`"))?;
        pool.worker().await?.embed(&texts).await
    }

    async fn shutdown(&self, grace: Duration) {
        self.stopping.cancel();
        futures_util::future::join_all(self.pools.values().map(|pool| pool.stop(grace))).await;
        futures_util::future::join_all(self.auxiliaries().iter().map(|auxiliary| auxiliary.stop())).await;
    }
}

fn unavailable(why: &dyn std::fmt::Display) -> RuntimeError {
    RuntimeError::Unavailable(why.to_string())
}

/// Watches the project, and the folders that it depends on.
fn watch(project: &Project, endings: &'static [&'static str]) -> Result<Watch, RuntimeError> {
    let (folder, folders) = (project.folder.as_path(), project.folders());
    let others = folders.iter().map(PathBuf::as_path).filter(|other| !other.starts_with(folder));
    Watch::start([folder].into_iter().chain(others), endings).map_err(|error| unavailable(&error))
}

/// What the workers of each language are started from.
async fn grounds(
    config: &ProcessRuntimeConfig,
    callbacks: &Callbacks,
) -> Result<BTreeMap<Language, Ground>, RuntimeError> {
    let env = environment::additions(&config.project).map_err(|error| unavailable(&error))?;
    let Interpreters { python, node, .. } = config.interpreters.clone();
    let python = python.map(|python| (Language::Python, Program::Python(python)));
    let node = node.map(|node| {
        (Language::Node, Program::Node(node.among(config.workers + auxiliary::count(&config.project, Language::Node))))
    });
    let mut grounds = BTreeMap::new();
    for (language, program) in python.into_iter().chain(node) {
        let package = embedded::extract(language, &config.cache).map_err(|error| unavailable(&error))?;
        let launch = Launch { program, package, folder: config.project.folder.clone(), env: env.clone() };
        let origin = origin(config.fork, &launch, &callbacks.tasks).await;
        grounds.insert(language, Ground { launch, origin, callbacks: callbacks.clone() });
    }
    Ok(grounds)
}

/// What the workers with the graphs of a language load.
fn graphs(config: &ProcessRuntimeConfig, language: Language) -> Load {
    let graphs = config.project.graphs.iter().filter(|graph| graph.language() == language);
    let index = config.project.item_index.as_ref().filter(|index| language::of(&index.embed) == language);
    Load {
        graphs: graphs.map(|graph| (graph.id.clone(), LoadGraph { path: graph.path.clone() })).collect(),
        concurrency: config.concurrency,
        store_ttl: StoreTtl::of(config.project.item_ttl),
        store_index: index.map(StoreIndex::of),
        serde: config.project.serde.clone().filter(|_| language == Language::Python),
        ..nothing(config)
    }
}

/// What a worker loads that has the project's code at hand, and nothing of it loaded yet.
fn nothing(config: &ProcessRuntimeConfig) -> Load {
    let imports = config.interpreters.python.iter().flat_map(|python| &python.imports);
    Load {
        proto: 0,
        project: config.project.folder.display().to_string(),
        graphs: BTreeMap::new(),
        concurrency: 1,
        store_ttl: None,
        store_index: None,
        serde: None,
        auth: None,
        encryption: None,
        app: None,
        url: Some(config.url.clone()),
        imports: imports.map(|folder| folder.display().to_string()).collect(),
    }
}

/// Loads the code anew whenever it changes.
async fn reload(runtime: Arc<ProcessRuntime>, mut watch: Watch) {
    loop {
        tokio::select! {
            change = watch.changed() => if change.is_none() { return },
            () = runtime.stopping.cancelled() => return,
        }
        for auxiliary in runtime.auxiliaries() {
            auxiliary.reload().await;
        }
        for pool in runtime.pools.values() {
            pool.reload().await;
        }
    }
}
