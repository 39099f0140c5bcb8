//! A worker process that serves one purpose beside the graphs, and so answers however busy they are. A dead one is
//! replaced, and changed code is loaded into a new one.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use threadyard_core::runtime::{Language, RuntimeError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    language,
    load::{Load, Ready},
    project::{AuthOptions, Project},
    worker::{Ground, Worker},
};

/// How long calls may go on that an old worker has begun.
const UNTIL_ANSWERED: Duration = Duration::from_secs(30);

/// What a worker of this kind is for.
pub(crate) struct Purpose {
    /// What it is called in the log.
    pub(crate) name: &'static str,
    /// What it loads.
    pub(crate) load: Load,
    /// Why a worker that has loaded it can't be used, if it can't.
    pub(crate) objection: fn(&Ready) -> Option<String>,
}

/// How many of these a project has in a language: for access, and for its application.
pub(crate) fn count(project: &Project, language: Language) -> u32 {
    let paths = [project.auth.as_ref().and_then(AuthOptions::path), project.http.app.as_ref()];
    paths.into_iter().flatten().map(|path| u32::from(language::of(path) == language)).sum()
}

/// The worker that serves a purpose now.
pub(crate) struct Auxiliary {
    purpose: Purpose,
    ground: Ground,
    current: RwLock<Arc<Worker>>,
    /// Told when another worker has taken over.
    changed: Notify,
    stopping: CancellationToken,
}

impl Auxiliary {
    /// Starts the worker; an error when it can't be used.
    pub(crate) async fn start(purpose: Purpose, ground: Ground) -> Result<Arc<Self>, RuntimeError> {
        let first = start(&purpose, &ground).await?;
        let this = Arc::new(Self {
            purpose,
            ground,
            current: RwLock::new(first),
            changed: Notify::new(),
            stopping: CancellationToken::new(),
        });
        this.ground.callbacks.tasks.spawn(keep(this.clone()));
        Ok(this)
    }

    /// The worker, unless it has died and no other one is there yet.
    pub(crate) fn worker(&self) -> Result<Arc<Worker>, RuntimeError> {
        let worker = self.current();
        if worker.connection.is_open() {
            return Ok(worker);
        }
        Err(RuntimeError::Unavailable(format!("the {} process has ended and is being replaced", self.purpose.name)))
    }

    /// Loads the code as it is now. While it can't be loaded, what was loaded before goes on serving.
    pub(crate) async fn reload(&self) {
        match start(&self.purpose, &self.ground).await {
            Ok(new) if new.ready.revision == self.current().ready.revision => new.stop(Duration::ZERO).await,
            Ok(new) => {
                tracing::info!(process = self.purpose.name, "the code has changed and is used from now on");
                let old = self.exchange(new);
                self.ground.callbacks.tasks.spawn(async move { old.stop(UNTIL_ANSWERED).await });
            }
            Err(error) => {
                let process = self.purpose.name;
                tracing::error!(process, %error, "the changed code can't be loaded; going on with what was loaded before");
            }
        }
    }

    /// Stops the worker for good.
    pub(crate) async fn stop(&self) {
        self.stopping.cancel();
        self.current().stop(Duration::ZERO).await;
    }

    /// The worker, whether it lives or not.
    pub(crate) fn current(&self) -> Arc<Worker> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn exchange(&self, new: Arc<Worker>) -> Arc<Worker> {
        let old = std::mem::replace(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner), new);
        self.changed.notify_waiters();
        old
    }
}

async fn start(purpose: &Purpose, ground: &Ground) -> Result<Arc<Worker>, RuntimeError> {
    let worker = ground.start_worker(purpose.load.clone()).await?;
    match (purpose.objection)(&worker.ready) {
        None => Ok(worker),
        Some(why) => {
            worker.stop(Duration::ZERO).await;
            Err(RuntimeError::Unavailable(why))
        }
    }
}

/// Puts another worker in the place of one that dies.
async fn keep(this: Arc<Auxiliary>) {
    let mut pause = Duration::from_millis(50);
    loop {
        let changed = this.changed.notified();
        let worker = this.current();
        tokio::select! {
            () = worker.gone.cancelled() => {}
            () = changed => continue,
            () = this.stopping.cancelled() => return,
        }
        tracing::warn!(process = this.purpose.name, "the process is gone; starting another");
        match start(&this.purpose, &this.ground).await {
            Ok(new) if this.stopping.is_cancelled() => return new.stop(Duration::ZERO).await,
            Ok(new) => {
                this.exchange(new);
                pause = Duration::from_millis(50);
            }
            Err(error) => {
                tracing::error!(process = this.purpose.name, %error, "the process could not be replaced; trying again");
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(10)),
                    () = this.stopping.cancelled() => return,
                }
            }
        }
    }
}
