//! The composition root: a project goes in, a running server comes out.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use threadyard_core::{runtime::GraphRuntime, webhook_pace::WebhookPace, webhook_policy::WebhookPolicy};
use threadyard_engine::{Engine, Parts, Role};
use threadyard_runtime::{NoGraphs, ProcessRuntime, ProcessRuntimeConfig, Project, python};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api,
    config::ServerArgs,
    listen::listen,
    sharing::{self, Shared, SharingArgs},
};

/// How a server differs between development and production.
#[derive(Clone, Debug)]
pub struct Mode {
    /// Whether changed code is loaded.
    pub reload: bool,
    /// Where webhooks may go, unless the project says otherwise.
    pub webhook_policy: WebhookPolicy,
    /// How webhooks are sent, unless the project says otherwise.
    pub webhook_pace: WebhookPace,
    /// Whether whoever reaches it from this machine is an operator.
    pub trusts_neighbours: bool,
    /// What it shares with other servers.
    pub sharing: SharingArgs,
}

/// A running server.
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its state is, unless that is shared.
    pub data_folder: PathBuf,
    engine: Engine,
    closing: CancellationToken,
    serving: TaskTracker,
}

impl App {
    /// Starts everything; `progress` hears one line for each long step.
    pub async fn start(
        args: &ServerArgs,
        mode: Mode,
        listener: TcpListener,
        progress: fn(&str),
    ) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let (open, opened) = watch::channel(None);
        let (closing, serving) = (CancellationToken::new(), TaskTracker::new());
        serving.spawn(listen(listener, api::opening(opened), closing.clone(), serving.clone()));
        // A start that fails, or is not waited for, leaves nothing that listens.
        let unopened = closing.clone().drop_guard();

        let project = Project::load(&args.config)?;
        let data_folder = args.data_dir.clone().unwrap_or_else(|| project.folder.join(".threadyard"));
        let shared = sharing::open(&mode.sharing, &data_folder, &serving, &closing).await?;
        args.webhook_master()?;
        let runtime: Arc<dyn GraphRuntime> = match Role::from(mode.sharing.role) {
            Role::Sender => Arc::new(NoGraphs::of(&project)),
            Role::All | Role::Api | Role::Worker => graphs(args, &mode, &project, &shared, progress).await?,
        };
        let settings = args.engine_settings(runtime.slots(), &project, &mode)?;
        let Shared { storage, bus, ambient } = shared;
        let engine = Engine::start(Parts { storage, bus, runtime, ambient, settings }).await?;

        let operators = args.operator_access(mode.trusts_neighbours && address.ip().is_loopback());
        unopened.disarm();
        open.send_replace(Some(api::router(engine.clone(), operators)));
        Ok(Self { address, data_folder, engine, closing, serving })
    }

    /// The address as a URL that works on this machine.
    pub fn url(&self) -> String {
        let host =
            if self.address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { self.address.ip().to_string() };
        format!("http://{host}:{}", self.address.port())
    }

    /// Stops: no new requests or runs, running ones go on for `grace`, then hand over to the next start.
    pub async fn stop(self, grace: Duration) {
        self.closing.cancel();
        self.engine.stop(grace).await;
        self.serving.close();
        let _ = tokio::time::timeout(Duration::from_secs(2), self.serving.wait()).await;
    }
}

/// Starts the worker processes of the project.
async fn graphs(
    args: &ServerArgs,
    mode: &Mode,
    project: &Project,
    shared: &Shared,
    progress: fn(&str),
) -> anyhow::Result<Arc<ProcessRuntime>> {
    let cache = args.cache_folder();
    let (found, cache_folder) = (project.clone(), cache.clone());
    let prepare = move || python::prepare(&found, &cache_folder, &progress);
    let interpreter = tokio::task::spawn_blocking(prepare).await.context("preparing Python broke off")??;
    progress("loading the graphs");
    let config = ProcessRuntimeConfig {
        project: project.clone(),
        interpreter,
        cache,
        workers: args.workers.unwrap_or(1),
        concurrency: args.n_jobs_per_worker,
        fork: !args.no_fork,
        reload: mode.reload,
    };
    Ok(ProcessRuntime::start(config, shared.storage.clone(), shared.ambient.clone()).await?)
}
