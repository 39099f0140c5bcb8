//! The composition root: a project goes in, a running server comes out.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};
use threadyard_backends::SealedStorage;
use threadyard_core::{
    access::Gate, own_app::OwnApp, runtime::GraphRuntime, sealing::SealingHandlers, webhook_pace::WebhookPace,
    webhook_policy::WebhookPolicy,
};
use threadyard_engine::{BuiltinAuth, BuiltinAuthRules, Engine, Parts, Role, Traces};
use threadyard_runtime::{AuthDecider, AuthOptions, NoGraphs, ProcessRuntime, ProcessRuntimeConfig, Project, ShutGate};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api::{self, HttpSettings, OwnRoutes},
    config::ServerArgs,
    encryption::LateHandlers,
    listen::{Doorway, listen},
    sharing::{self, Shared, SharingArgs},
    telemetry::Exporting,
};

/// So many worker processes there are unless somebody says otherwise.
pub(crate) const WORKERS: u32 = 1;

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
    /// What all paths but that of `/ok` begin with.
    prefix: String,
    is_guarded: bool,
    engine: Engine,
    closing: CancellationToken,
    /// Cancelled when nothing goes on any more that could be asked for.
    stopped: CancellationToken,
    serving: TaskTracker,
    exporting: Option<Exporting>,
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
        let project = project(args)?;
        let (open, opened) = watch::channel(None);
        let (closing, serving) = (CancellationToken::new(), TaskTracker::new());
        let doorway = Doorway::new(args);
        serving.spawn(listen(listener, api::opening(opened), doorway, (closing.clone(), serving.clone())));
        // A start that fails, or is not waited for, leaves nothing that listens.
        let unopened = closing.clone().drop_guard();

        let data_folder = args.data_dir.clone().unwrap_or_else(|| data_folder(&project.folder));
        let (shared, handlers) = storage(args, &mode, &project, &data_folder, (&serving, &closing)).await?;
        args.webhook_master()?;
        let exporting = Exporting::start()?;
        let traces = exporting.as_ref().map_or_else(Traces::default, |it| Traces::to(it.tracer()));
        let (mut front, mut ui) = (None, None);
        let (runtime, gate) = match Role::from(mode.sharing.role) {
            Role::Sender => {
                (Arc::new(NoGraphs::of(&project)) as Arc<dyn GraphRuntime>, gate(&project, &shared, None).await?)
            }
            Role::All | Role::Api | Role::Worker => {
                let graphs = graphs((args, &mode), &project, address, &shared, progress).await?;
                begin_encryption(&project, handlers.as_deref(), &graphs).await?;
                let gate = gate(&project, &shared, Some(&graphs)).await?;
                if let Some(app) = &project.http.app {
                    front = Some(graphs.custom_app(app).await?);
                }
                ui = graphs.ui().await?;
                (graphs as Arc<dyn GraphRuntime>, gate)
            }
        };
        let (app, passed_on) = front.unzip();
        let http = HttpSettings {
            cors: args.cors(project.http.cors.clone()),
            options: args.http_options(&project)?,
            auth_openapi: project.auth.as_ref().and_then(auth_openapi),
            gate,
            sealing: handlers.map(|handlers| handlers as Arc<dyn SealingHandlers>),
            limits: args.limits.http(),
            ambient: shared.ambient.clone(),
            app,
            ui,
            metrics: Arc::default(),
            traces: traces.clone(),
        };
        let settings = args.engine_settings(runtime.slots(), &project, &mode)?;
        let Shared { storage, bus, ambient } = shared;
        let own_app = http.app.clone().map(|app| Arc::new(OwnRoutes::new(app, &http.options)) as Arc<dyn OwnApp>);
        let engine = Engine::start(Parts { storage, bus, runtime, own_app, ambient, traces, settings }).await?;

        // Where callers have to say who they are, being on the same machine is not enough.
        let is_guarded = http.gate.is_some();
        let operators = args.operator_access(mode.trusts_neighbours && address.ip().is_loopback() && !is_guarded);
        unopened.disarm();
        let routes = api::routes(engine.clone(), operators, &http);
        let stopped = CancellationToken::new();
        if let Some(passed_on) = passed_on {
            let (ambient, tasks, stopped) = (http.ambient.clone(), serving.clone(), stopped.clone());
            serving.spawn(api::answer_passed_on(passed_on, routes.clone(), ambient, tasks, stopped));
        }
        open.send_replace(Some(api::edge(routes, &http)));
        let prefix = http.options.mount_prefix;
        Ok(Self { address, data_folder, prefix, is_guarded, engine, closing, stopped, serving, exporting })
    }

    /// Whether nobody asks who calls.
    pub fn is_open(&self) -> bool {
        !self.is_guarded
    }

    /// What all paths begin with, behind an address that works on this machine.
    pub fn url(&self) -> String {
        local_url(self.address, &self.prefix)
    }

    /// Stops: no new requests or runs, running ones go on for `grace`, then hand over to the next start.
    pub async fn stop(self, grace: Duration) {
        self.closing.cancel();
        self.engine.stop(grace).await;
        self.stopped.cancel();
        self.serving.close();
        let _ = tokio::time::timeout(Duration::from_secs(2), self.serving.wait()).await;
        if let Some(exporting) = self.exporting {
            exporting.stop().await;
        }
    }
}

/// What all paths begin with at an address, as who is on this machine finds it.
fn local_url(address: SocketAddr, prefix: &str) -> String {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}{prefix}", SocketAddr::new(host, address.port()))
}

/// Where the state of a project is kept unless somebody says otherwise.
pub(crate) fn data_folder(project: &Path) -> PathBuf {
    project.join(".threadyard")
}

/// The project, with warnings of what it says in vain.
fn project(args: &ServerArgs) -> anyhow::Result<Project> {
    let project = Project::load(&args.config)?;
    project.warn_of_keys_without_effect();
    Ok(project)
}

/// Opens where state is kept, with the handlers in front of it that are to encrypt it, if the project has any.
async fn storage(
    args: &ServerArgs,
    mode: &Mode,
    project: &Project,
    data_folder: &Path,
    (serving, closing): (&TaskTracker, &CancellationToken),
) -> anyhow::Result<(Shared, Option<Arc<LateHandlers>>)> {
    let cipher = args.encryption.cipher()?;
    args.encryption.warn_of_nothing();
    if project.encryption.is_none() {
        return Ok((sharing::open((&mode.sharing, &cipher), data_folder, serving, closing).await?, None));
    }
    ensure!(
        Role::from(mode.sharing.role) != Role::Sender,
        "a server of the role `sender` runs no code of the project, and what it sends was encrypted by `encryption.path`; \
         have servers of another role send webhooks"
    );
    let cipher = cipher.behind_handlers();
    let shared = sharing::open((&mode.sharing, &cipher), data_folder, serving, closing).await?;
    let handlers = Arc::new(LateHandlers::default());
    let storage = Arc::new(SealedStorage::new(shared.storage, handlers.clone()));
    Ok((Shared { storage, ..shared }, Some(handlers)))
}

/// Starts the handlers that stand in front of the storage.
async fn begin_encryption(
    project: &Project,
    handlers: Option<&LateHandlers>,
    graphs: &ProcessRuntime,
) -> anyhow::Result<()> {
    if let (Some(path), Some(handlers)) = (&project.encryption, handlers) {
        handlers.begin(graphs.encryption(path).await?);
    }
    Ok(())
}

/// Starts what decides about access, if the project wants that. Its own code does so only where that is run.
async fn gate(
    project: &Project,
    shared: &Shared,
    graphs: Option<&Arc<ProcessRuntime>>,
) -> anyhow::Result<Option<Arc<dyn Gate>>> {
    let Some(auth) = &project.auth else { return Ok(None) };
    Ok(Some(match (&auth.decider, graphs) {
        (AuthDecider::Builtin { keys, tokens }, _) => {
            let rules = BuiltinAuthRules { keys: *keys, tokens: tokens.clone() };
            Arc::new(BuiltinAuth::new(rules, shared.storage.clone(), &shared.ambient)?)
        }
        (AuthDecider::Custom(config), Some(graphs)) => graphs.auth(config.clone()).await?,
        (AuthDecider::Custom(_), None) => Arc::new(ShutGate),
    }))
}

/// Starts the worker processes of the project.
async fn graphs(
    (args, mode): (&ServerArgs, &Mode),
    project: &Project,
    address: SocketAddr,
    shared: &Shared,
    progress: fn(&str),
) -> anyhow::Result<Arc<ProcessRuntime>> {
    let cache = args.cache_folder();
    let (found, cache_folder) = (project.clone(), cache.clone());
    let prepare = move || threadyard_runtime::prepare(&found, &cache_folder, &progress);
    let interpreters =
        tokio::task::spawn_blocking(prepare).await.context("preparing the project's code broke off")??;
    progress("loading the graphs");
    let config = ProcessRuntimeConfig {
        project: project.clone(),
        url: local_url(address, &args.http_options(project)?.mount_prefix),
        interpreters,
        cache,
        workers: args.workers.unwrap_or(WORKERS),
        // Who executes no runs still asks graphs for their schemas and states.
        concurrency: args.n_jobs_per_worker.max(1),
        fork: !args.no_fork,
        reload: mode.reload,
    };
    // What is held while workers start is large, and would be part of everything that waits for it.
    Ok(Box::pin(ProcessRuntime::start(config, shared.storage.clone(), shared.ambient.clone())).await?)
}

/// What the document of the API says of authentication: what the project does, or else what the server asks for.
fn auth_openapi(auth: &AuthOptions) -> Option<Value> {
    let AuthDecider::Builtin { keys, tokens } = &auth.decider else { return auth.openapi.clone() };
    let mut schemes = Map::new();
    if *keys {
        schemes.insert("ApiKey".into(), json!({ "type": "apiKey", "in": "header", "name": "x-api-key" }));
    }
    if tokens.is_some() {
        schemes.insert("Token".into(), json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT" }));
    }
    let security: Vec<_> = schemes.keys().map(|scheme| json!({ scheme: [] })).collect();
    auth.openapi.clone().or_else(|| Some(json!({ "securitySchemes": schemes, "security": security })))
}
