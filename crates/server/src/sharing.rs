//! Where a server keeps its state, and what it shares with others: a folder of its own, or PostgreSQL and Redis.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use threadyard_backends::{
    Cipher, LocalBus, LocalBusConfig, PostgresConfig, PostgresStorage, RedisConfig, SharedBus, SharedBusConfig,
    SqliteStorage,
};
use threadyard_core::{
    ambient::{Ambient, ClockOffset},
    bus::EventBus,
    storage::Storage,
};
use threadyard_engine::Role;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How `serve` shares its work with other servers.
#[derive(Args, Clone, Debug, Default)]
pub struct SharingArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// The Redis that carries live events between servers, such as `redis://host:6379/0`; `PostgreSQL` carries them
    /// unless said.
    #[arg(long, env = "REDIS_URI", hide_env_values = true)]
    pub redis_uri: Option<String>,
    /// What the names of all channels in Redis begin with.
    #[arg(long, env = "REDIS_KEY_PREFIX", default_value = "")]
    pub redis_key_prefix: String,
    /// What this server does besides answering requests.
    #[arg(long, env = "THREADYARD_ROLE", value_enum, default_value_t)]
    pub role: RoleArg,
}

/// The database that servers share.
#[derive(Args, Clone, Debug, Default)]
pub struct DatabaseArgs {
    /// The `PostgreSQL` database that holds all state, such as `postgresql://user:password@host:5432/name`. Without it,
    /// state is kept in SQLite, in the data folder.
    #[arg(long, env = "DATABASE_URI", hide_env_values = true)]
    pub database_uri: Option<String>,
    /// The same by its other usual name.
    #[arg(long, env = "POSTGRES_URI", hide_env_values = true)]
    pub postgres_uri: Option<String>,
    /// How many connections to `PostgreSQL` this server opens at most.
    #[arg(long, env = "LANGGRAPH_POSTGRES_POOL_MAX_SIZE", default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=1_000))]
    pub postgres_pool_max_size: u16,
}

/// As `Role`, on the command line.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum RoleArg {
    /// Everything.
    #[default]
    All,
    /// Nothing else: others execute what is asked for here.
    Api,
    /// Executes runs and crons, and removes what is kept no longer.
    Worker,
    /// Sends webhooks; needs no Python.
    Sender,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::All => Self::All,
            RoleArg::Api => Self::Api,
            RoleArg::Worker => Self::Worker,
            RoleArg::Sender => Self::Sender,
        }
    }
}

impl DatabaseArgs {
    /// How to reach the database, if one is named. A variable that is set to nothing names none.
    pub fn postgres(&self) -> anyhow::Result<Option<PostgresConfig>> {
        let mut named = [&self.database_uri, &self.postgres_uri].into_iter().flatten();
        let Some(uri) = named.find(|uri| !uri.is_empty()) else { return Ok(None) };
        let config = PostgresConfig::parse(uri).context("the URI of the database can't be used")?;
        Ok(Some(config.with_max_connections(self.postgres_pool_max_size.into())))
    }
}

impl SharingArgs {
    /// The Redis that is named, if one is.
    pub(crate) fn redis(&self) -> anyhow::Result<Option<RedisConfig>> {
        let Some(uri) = self.redis_uri.as_deref().filter(|uri| !uri.is_empty()) else { return Ok(None) };
        Ok(Some(RedisConfig::parse(uri, &self.redis_key_prefix).context("the URI of Redis can't be used")?))
    }
}

/// What the parts of a server work on.
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) ambient: Ambient,
}

/// How often the clock of the database is asked for.
const CLOCK_EVERY: Duration = Duration::from_secs(30);

/// Opens what the arguments name: the shared database, or else the one in the data folder.
pub(crate) async fn open(
    (args, cipher): (&SharingArgs, &Cipher),
    data_folder: &Path,
    tasks: &TaskTracker,
    closing: &CancellationToken,
) -> anyhow::Result<Shared> {
    let redis = args.redis()?;
    let Some(postgres) = args.database.postgres()? else {
        ensure!(redis.is_none(), "REDIS_URI is only of use with DATABASE_URI: Redis connects servers of one database");
        ensure!(Role::from(args.role) == Role::All, "a role of its own needs DATABASE_URI: others have to do the rest");
        return alone(data_folder, cipher);
    };
    let storage = Arc::new(PostgresStorage::open_with(&postgres, cipher).await?);
    let offset = Arc::new(ClockOffset::default());
    let system = Ambient::system();
    read_clock(&storage, &system, &offset).await.context("the clock of the database can't be read")?;
    let ambient = system.clone().corrected(offset.clone());
    let bus: Arc<dyn EventBus> = match redis {
        Some(redis) => Arc::new(SharedBus::over_redis(redis, SharedBusConfig::default(), ambient.clone())),
        None => Arc::new(SharedBus::over_postgres(postgres, "", SharedBusConfig::default(), ambient.clone())),
    };
    tasks.spawn(keep_time(storage.clone(), system, offset, closing.clone()));
    Ok(Shared { storage, bus, ambient })
}

fn alone(data_folder: &Path, cipher: &Cipher) -> anyhow::Result<Shared> {
    let ambient = Ambient::system();
    let storage = Arc::new(SqliteStorage::open_with(data_folder, cipher)?);
    // The folder is nobody's source code.
    std::fs::write(data_folder.join(".gitignore"), "*\n").context("the data folder can't be written")?;
    let bus = Arc::new(LocalBus::new(LocalBusConfig::default(), ambient.clone()));
    Ok(Shared { storage, bus, ambient })
}

/// Has this server go by the clock of the database, so that all who share it agree on what is due.
async fn keep_time(
    storage: Arc<PostgresStorage>,
    system: Ambient,
    offset: Arc<ClockOffset>,
    closing: CancellationToken,
) {
    while closing.run_until_cancelled(tokio::time::sleep(CLOCK_EVERY)).await.is_some() {
        if let Err(error) = read_clock(&storage, &system, &offset).await {
            tracing::warn!(%error, "the clock of the database can't be read; going by the last reading");
        }
    }
}

async fn read_clock(
    storage: &PostgresStorage,
    system: &Ambient,
    offset: &ClockOffset,
) -> threadyard_core::storage::Result<()> {
    offset.set(storage.clock_offset(|| system.now()).await?);
    Ok(())
}
