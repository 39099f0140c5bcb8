//! Settings: command-line flags and environment variables, by the names that LangGraph's users know.

use std::{path::PathBuf, time::Duration};

use anyhow::ensure;
use clap::Args;
use threadyard_core::webhook_keys::MasterKey;
use threadyard_engine::{Faults, Settings, Sweep, signing::master_of};
use threadyard_runtime::{Project, SweepChoice};

use crate::{api::OperatorAccess, app::Mode};

/// What `dev` and `serve` share.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// The address to listen on.
    #[arg(long)]
    pub host: Option<std::net::IpAddr>,
    /// The port to listen on.
    #[arg(long, env = "PORT")]
    pub port: Option<u16>,
    /// The project's configuration file.
    #[arg(long, short, default_value = "langgraph.json")]
    pub config: PathBuf,
    /// How many runs each worker process executes at once.
    #[arg(long, env = "N_JOBS_PER_WORKER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub n_jobs_per_worker: u32,
    /// How many worker processes there are.
    #[arg(long, env = "THREADYARD_WORKERS", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub workers: Option<u32>,
    /// Where state is kept; `.threadyard` beside the configuration file unless said.
    #[arg(long, env = "THREADYARD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where Python environments are kept between starts.
    #[arg(long, env = "THREADYARD_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Starts each worker process by itself instead of forking a warm one.
    #[arg(long, env = "THREADYARD_NO_FORK")]
    pub no_fork: bool,
    /// How long a run may take, in seconds.
    #[arg(long, env = "BG_JOB_TIMEOUT_SECS", default_value_t = 3600)]
    pub run_timeout_secs: u64,
    /// How long running runs may go on when the server is told to stop, in seconds.
    #[arg(long, env = "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS", default_value_t = 180)]
    pub shutdown_grace_secs: u64,
    /// How long a server that does not answer keeps its runs, in seconds; then they are taken up again.
    #[arg(long, env = "THREADYARD_LEASE_SECS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..=3_600))]
    pub lease_secs: u64,
    /// How long the events of a resumable stream can be replayed after the run ended, in seconds.
    #[arg(long, env = "RESUMABLE_STREAM_TTL_SECONDS", default_value_t = 120)]
    pub resumable_stream_ttl_secs: u64,
    /// What operators send as a bearer token; needed for their routes, unless `dev` listens on this machine only.
    #[arg(long, env = "THREADYARD_OPERATOR_TOKEN", hide_env_values = true)]
    pub operator_token: Option<String>,
    /// What webhooks are signed with, as a long random text; a key is made and kept with the state unless said.
    #[arg(long, env = "LG_WEBHOOK_SIGNING_SECRET", hide_env_values = true)]
    pub webhook_signing_secret: Option<String>,
    /// For crash tests: the point at which the server kills itself.
    #[arg(long, env = "THREADYARD_KILL_AT", hide = true)]
    pub kill_at: Option<String>,
}

/// Whoever has one signature can try texts until one gives the same.
const SHORTEST_SECRET: usize = 24;

impl ServerArgs {
    /// The cache folder: the one that was named, or the user's.
    pub fn cache_folder(&self) -> PathBuf {
        let named = self.cache_dir.clone();
        let home = || std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from).join(".cache");
        let user = || std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
        named.unwrap_or_else(|| user().join("threadyard"))
    }

    /// How long running runs may go on.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace_secs)
    }

    /// What webhooks are signed with, if the operator says so. A variable that is set to nothing says nothing.
    pub fn webhook_master(&self) -> anyhow::Result<Option<MasterKey>> {
        let Some(secret) = self.webhook_signing_secret.as_deref().filter(|secret| !secret.is_empty()) else {
            return Ok(None);
        };
        ensure!(
            secret.chars().count() >= SHORTEST_SECRET,
            "LG_WEBHOOK_SIGNING_SECRET must have at least {SHORTEST_SECRET} characters, such as what `openssl rand -base64 32` prints"
        );
        Ok(Some(master_of(secret)))
    }

    /// How operators are told from others.
    pub fn operator_access(&self, trusts_everybody: bool) -> OperatorAccess {
        match &self.operator_token {
            Some(token) if !token.is_empty() => OperatorAccess::Token(token.as_str().into()),
            _ if trusts_everybody => OperatorAccess::Everybody,
            _ => OperatorAccess::Nobody,
        }
    }

    /// What the engine is to know.
    pub fn engine_settings(&self, slots: u32, project: &Project, mode: &Mode) -> anyhow::Result<Settings> {
        let usual = Sweep::default();
        let sweep = |chosen: SweepChoice| Sweep {
            every: chosen.every.unwrap_or(usual.every),
            limit: chosen.limit.unwrap_or(usual.limit),
        };
        Ok(Settings {
            concurrency: slots,
            run_timeout: Duration::from_secs(self.run_timeout_secs),
            stop_within: Duration::from_secs(10),
            max_attempts: 3,
            lease: Duration::from_secs(self.lease_secs),
            events_kept: Duration::from_secs(self.resumable_stream_ttl_secs),
            webhooks_enabled: project.webhooks_enabled,
            webhook_master: self.webhook_master()?,
            webhook_policy: project.webhooks.policy(&mode.webhook_policy),
            webhook_headers: project.webhooks.headers.clone(),
            webhook_pace: project.webhooks.pace(&mode.webhook_pace),
            deliveries_kept: project.webhooks.deliveries_kept,
            thread_ttl: project.thread_ttl,
            sweep: sweep(project.sweep),
            item_ttl: project.item_ttl,
            item_index: project.item_index.clone(),
            item_sweep: sweep(project.item_sweep),
            role: mode.sharing.role.into(),
            faults: Faults::new(self.kill_at.clone()),
        })
    }
}
