//! Settings: command-line flags and environment variables, by the names that LangGraph's users know.

use std::{path::PathBuf, time::Duration};

use anyhow::{anyhow, ensure};
use clap::Args;
use threadyard_core::{webhook_keys::MasterKey, webhook_policy::WebhookPolicy};
use threadyard_engine::{Faults, Settings, Sweep, signing::master_of};
use threadyard_runtime::{CorsRules, HttpOptions, Project, SweepChoice, mount_prefix};

use crate::{api::OperatorAccess, app::Mode, encryption::EncryptionArgs, limits::LimitArgs, proxies::TrustedProxies};

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
    /// How many runs each worker process executes at once. With 0, `serve` has the role `api`.
    #[arg(long, env = "N_JOBS_PER_WORKER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=10_000))]
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
    /// How many attempts a run has whose workers die or do not answer. What graph code raises ends it at once.
    #[arg(long, env = "BG_JOB_MAX_RETRIES", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub max_attempts: u32,
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
    /// The origins whose pages may use the API, with commas between; `http.cors` of the project wins.
    #[arg(long, env = "CORS_ALLOW_ORIGINS", default_value = "*")]
    pub cors_allow_origins: String,
    /// What all paths but that of `/ok` begin with; `http.mount_prefix` of the project wins.
    #[arg(long, env = "MOUNT_PREFIX")]
    pub mount_prefix: Option<String>,
    /// Which proxies are believed when they say who asks (`X-Forwarded-For`) and whether that was encrypted
    /// (`X-Forwarded-Proto`): addresses and networks with commas between, `*` for whoever connects, nothing for nobody.
    #[arg(long, env = "FORWARDED_ALLOW_IPS", default_value = "127.0.0.1")]
    pub forwarded_allow_ips: TrustedProxies,
    /// How what is stored is encrypted.
    #[command(flatten)]
    pub encryption: EncryptionArgs,
    /// How much callers may ask for.
    #[command(flatten)]
    pub limits: LimitArgs,
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

    /// How the project is served over HTTP.
    pub fn http_options(&self, project: &Project) -> anyhow::Result<HttpOptions> {
        let mut options = project.http.clone();
        if let (Some(prefix), true) = (&self.mount_prefix, options.mount_prefix.is_empty()) {
            options.mount_prefix = mount_prefix(prefix).map_err(|why| anyhow!("MOUNT_PREFIX: {why}"))?;
        }
        Ok(options)
    }

    /// Which pages of other sites may use the API: as the project says, or else as the operator does.
    pub fn cors(&self, project: Option<CorsRules>) -> CorsRules {
        let text = str::to_owned;
        project.unwrap_or_else(|| CorsRules {
            allow_origins: self.cors_allow_origins.split(',').map(str::trim).map(text).collect(),
            allow_origin_regex: None,
            allow_methods: vec!["*".into()],
            allow_headers: vec!["*".into()],
            // Upstream: whoever names origins means pages that send cookies.
            allow_credentials: self.cors_allow_origins.trim() != "*",
            expose_headers: ["x-pagination-total", "x-pagination-next", "content-location"].map(text).to_vec(),
            max_age: Duration::from_mins(10),
        })
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
            run_limits: self.limits.runs(),
            run_timeout: Duration::from_secs(self.run_timeout_secs),
            stop_within: Duration::from_secs(10),
            // Less than handlers have for one call: what hangs is tried again, and not refused.
            decrypt_within: Duration::from_secs(20),
            max_attempts: self.max_attempts,
            lease: Duration::from_secs(self.lease_secs),
            events_kept: Duration::from_secs(self.resumable_stream_ttl_secs),
            webhooks_enabled: !project.http.disabled.webhooks,
            webhook_master: self.webhook_master()?,
            webhook_policy: WebhookPolicy {
                own_app: project.http.app.is_some(),
                ..project.webhooks.policy(&mode.webhook_policy)
            },
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
