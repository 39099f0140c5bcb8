//! The workers with the graphs of one language: a generation of them serves, dead ones are replaced, changed code makes a
//! new generation.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use threadyard_core::{
    runtime::{GraphError, RuntimeError},
    workers::Workers,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    load::{Load, Ready},
    worker::{Ground, Worker},
};

/// The grace of workers with old code: their runs end with the code they began with.
const UNTIL_THEY_END: Duration = Duration::from_hours(24 * 365);

/// Executes the graphs of one language.
pub(crate) struct Pool {
    ground: Ground,
    /// What each worker loads.
    load: Load,
    /// How many there are.
    size: u32,
    generation: RwLock<Arc<Generation>>,
    /// Told when workers come.
    changed: Notify,
    /// How many workers had to be replaced.
    replaced: AtomicU64,
    stopping: CancellationToken,
}

/// Workers that loaded the same code.
pub(crate) struct Generation {
    workers: RwLock<Vec<Arc<Worker>>>,
    pub(crate) failures: BTreeMap<String, GraphError>,
    pub(crate) revision: String,
    /// Cancelled when another generation has taken over.
    retired: CancellationToken,
}

impl Generation {
    /// Starts a full set of workers with the code as it is now.
    async fn load(ground: &Ground, load: &Load, size: u32) -> Result<Arc<Self>, RuntimeError> {
        let started = tokio::time::Instant::now();
        let mut workers = Vec::new();
        for _ in 0..size {
            workers.push(ground.start_worker(load.clone()).await?);
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
        let (revision, broken_index) = (ready.revision.clone(), broken_index(load, ready));
        let generation = Self { workers: RwLock::new(workers), failures, revision, retired: CancellationToken::new() };
        match broken_index {
            None => Ok(Arc::new(generation)),
            // Without its index, the store would take items that are never found again.
            Some(error) => {
                generation.stop(Duration::ZERO).await;
                Err(error)
            }
        }
    }

    /// Puts a new worker in the place of a dead one, unless it is too late: whoever retires a generation stops the
    /// workers that are in it then, and no others.
    fn exchange(&self, dead: &Arc<Worker>, new: &Arc<Worker>, stopping: &CancellationToken) -> bool {
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        let in_time = !self.retired.is_cancelled() && !stopping.is_cancelled();
        match workers.iter().position(|known| Arc::ptr_eq(known, dead)) {
            Some(place) if in_time => workers[place] = new.clone(),
            Some(place) => drop(workers.remove(place)),
            None if in_time => workers.push(new.clone()),
            None => {}
        }
        in_time
    }

    async fn stop(&self, grace: Duration) {
        self.retired.cancel();
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner).clone();
        futures_util::future::join_all(workers.iter().map(|worker| worker.stop(grace))).await;
    }
}

impl Pool {
    /// Starts the workers; returns when they have loaded the graphs. Graphs that can't be loaded don't prevent it.
    pub(crate) async fn start(ground: Ground, load: Load, size: u32) -> Result<Arc<Self>, RuntimeError> {
        let first = Generation::load(&ground, &load, size).await?;
        let pool = Arc::new(Self {
            ground,
            load,
            size,
            generation: RwLock::new(first.clone()),
            changed: Notify::new(),
            replaced: AtomicU64::new(0),
            stopping: CancellationToken::new(),
        });
        pool.keep_full(&first);
        Ok(pool)
    }

    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.generation.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How its workers stand.
    pub(crate) fn workers(&self) -> Workers {
        let generation = self.generation();
        let workers = generation.workers.read().unwrap_or_else(PoisonError::into_inner);
        Workers {
            processes: workers.iter().map(|worker| worker.state()).collect(),
            replaced: self.replaced.load(Ordering::Relaxed),
        }
    }

    /// Whether its workers make vectors of texts.
    pub(crate) fn embeds(&self) -> bool {
        self.load.store_index.is_some()
    }

    /// The worker with the fewest runs, waiting for one if all have died.
    pub(crate) async fn worker(&self) -> Result<Arc<Worker>, RuntimeError> {
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

    /// A worker that is in no generation.
    pub(crate) async fn own_worker(&self) -> Result<Arc<Worker>, RuntimeError> {
        self.ground.start_worker(self.load.clone()).await
    }

    /// Loads the code as it is now. While it can't be loaded, what was loaded before goes on serving.
    pub(crate) async fn reload(self: &Arc<Self>) {
        let loaded = Generation::load(&self.ground, &self.load, self.size).await;
        let old = self.generation();
        match loaded {
            Ok(new) if new.failures.keys().any(|graph| !old.failures.contains_key(graph)) => {
                tracing::warn!("the changed code breaks a graph that worked; going on with what was loaded before");
                new.stop(Duration::ZERO).await;
            }
            Ok(new) if new.revision == old.revision && new.failures == old.failures => {
                new.stop(Duration::ZERO).await;
            }
            Ok(new) => {
                *self.generation.write().unwrap_or_else(PoisonError::into_inner) = new.clone();
                tracing::info!("the code has changed; new runs use it");
                self.keep_full(&new);
                old.retired.cancel();
                self.ground.callbacks.tasks.spawn(async move { old.stop(UNTIL_THEY_END).await });
            }
            Err(error) => {
                tracing::error!(%error, "the changed code can't be loaded; going on with what was loaded before");
            }
        }
    }

    /// Stops all workers; runs that go on after `grace` are stopped, too.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.stopping.cancel();
        self.generation().stop(grace).await;
    }

    /// Replaces every worker of a generation that dies.
    fn keep_full(self: &Arc<Self>, generation: &Arc<Generation>) {
        let workers = generation.workers.read().unwrap_or_else(PoisonError::into_inner).clone();
        for worker in workers {
            self.ground.callbacks.tasks.spawn(replace_when_gone(self.clone(), generation.clone(), worker));
        }
    }
}

/// Why items could not be found by their meaning, if the project wants that.
fn broken_index(load: &Load, ready: &Ready) -> Option<RuntimeError> {
    let index = load.store_index.as_ref()?;
    let GraphError { error, message, .. } = ready.store_index.as_ref()?.error.as_ref()?;
    let why = format!("store.index.embed: `{}` could not be loaded: {error}: {message}", index.embed);
    Some(RuntimeError::Unavailable(why))
}

async fn replace_when_gone(pool: Arc<Pool>, generation: Arc<Generation>, mut worker: Arc<Worker>) {
    loop {
        tokio::select! {
            () = worker.gone.cancelled() => tracing::warn!("a worker is gone; starting another"),
            () = worker.stuck.cancelled() => tracing::warn!("a run on a worker does not stop; starting another worker"),
            () = generation.retired.cancelled() => return,
            () = pool.stopping.cancelled() => return,
        }
        let mut pause = Duration::from_millis(50);
        let new = loop {
            match pool.own_worker().await {
                Ok(new) => break new,
                Err(error) => tracing::error!(%error, "a worker could not be replaced; trying again"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(10)),
                () = generation.retired.cancelled() => return,
                () = pool.stopping.cancelled() => return,
            }
        };
        if !generation.exchange(&worker, &new, &pool.stopping) {
            new.stop(Duration::ZERO).await;
            return;
        }
        worker = new;
        pool.replaced.fetch_add(1, Ordering::Relaxed);
        pool.changed.notify_waiters();
    }
}
