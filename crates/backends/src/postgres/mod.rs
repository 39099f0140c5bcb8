//! PostgreSQL: a pool of connections, a few lanes that write in groups, integer keys inside and UUIDs outside.

mod agent_tasks;
mod api_keys;
mod assistants;
mod blobs;
mod checkpoints;
mod config;
mod connection;
mod crons;
mod deliveries;
mod due;
mod ending;
mod events;
mod failures;
mod items;
mod known_keys;
mod lanes;
mod limits;
mod lineages;
mod metadata;
mod push_configs;
mod queue;
mod recoveries;
mod retention;
mod rows;
mod runs;
mod scans;
mod schema;
mod sql;
mod thread_search;
mod threads;
mod tls;
mod transaction;
mod transfer;
mod transfer_rows;
mod vectors;
mod webhook_keys;
mod webhooks;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use quick_cache::sync::Cache;
use threadyard_core::{
    api_keys::ApiKeys,
    connections::{ConnectionState, Connections},
    ids::{RunId, ThreadId},
    runs::{Lease, Run},
    storage::{Result, StorageError},
    time::Timestamp,
};

pub(crate) use self::transfer::RestingPostgres;
pub use self::{
    config::{Dedicated, PostgresConfig, UriError},
    schema::PostgresOpenError,
    tls::RootsError,
};
use self::{
    connection::{Client, Pool},
    lanes::Lanes,
    transaction::Work,
};
use crate::{cipher::Cipher, growth::Heads};

/// How many groups are written at once.
const LANES: usize = 3;
/// So many runs are remembered with their lanes.
const HOMES: usize = 16_384;

/// Facts in a PostgreSQL database, which any number of servers may share.
pub struct PostgresStorage {
    /// For whatever is not written on a lane.
    pool: Pool,
    /// What the lanes write on.
    lanes_pool: Pool,
    lanes: Lanes,
    heads: Arc<Heads>,
    /// The runs that were claimed here.
    homes: Cache<RunId, Home>,
}

/// What is known of a run by whoever holds its lease.
#[derive(Clone, Copy)]
struct Home {
    /// The place of its writes in the order of those to its thread.
    key: u64,
    /// Its thread, unless it is not known here.
    thread: Option<ThreadId>,
    /// Whether its end may concern its own row and its thread's alone.
    plain: bool,
}

impl PostgresStorage {
    /// Opens the database, and first brings its tables up to date. Leases stay: other servers may hold them. What is written
    /// stays as it is.
    pub async fn open(config: &PostgresConfig) -> std::result::Result<Self, PostgresOpenError> {
        Self::open_with(config, &Cipher::none()).await
    }

    /// As `open`, and encrypts what is written from now on.
    pub async fn open_with(config: &PostgresConfig, cipher: &Cipher) -> std::result::Result<Self, PostgresOpenError> {
        schema::migrate(config).await?;
        schema::with_connection(config, async |client| known_keys::admit(&client, cipher).await).await?;
        Self::start(config, cipher).await
    }

    /// The API keys in a database, which are not encrypted.
    pub async fn api_keys_of(config: &PostgresConfig) -> std::result::Result<impl ApiKeys + use<>, PostgresOpenError> {
        schema::migrate(config).await?;
        Self::start(config, &Cipher::none()).await
    }

    async fn start(config: &PostgresConfig, cipher: &Cipher) -> std::result::Result<Self, PostgresOpenError> {
        if let Some(source) = transfer::unfinished(config).await? {
            return Err(PostgresOpenError::Unfinished(source));
        }
        // However many read, who writes does not wait behind them for a connection.
        let lanes = LANES.min(config.max_connections() / 2).max(1);
        let pool = Pool::new(config, config.max_connections().saturating_sub(lanes).max(1), cipher)?;
        let lanes_pool = Pool::new(config, lanes, cipher)?;
        let lanes = Lanes::start(lanes, &lanes_pool);
        Ok(Self { pool, lanes_pool, lanes, heads: Arc::new(Heads::new()), homes: Cache::new(HOMES) })
    }

    /// Brings the tables up to date. Says which migrations that took.
    pub async fn migrate(config: &PostgresConfig) -> std::result::Result<Vec<String>, PostgresOpenError> {
        schema::migrate(config).await
    }

    /// The migrations that have not been done yet; changes nothing.
    pub async fn pending_migrations(config: &PostgresConfig) -> std::result::Result<Vec<String>, PostgresOpenError> {
        schema::pending(config).await
    }

    /// How many microseconds the clock of the database is ahead of ours.
    pub async fn clock_offset(&self, now: impl Fn() -> Timestamp + Send) -> Result<i64> {
        let client = self.client().await?;
        let before = now();
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        let theirs: i64 = rows::get(&rows::one(&client, sql, &[]).await?, 0)?;
        let after = now();
        Ok(theirs - (before.0 + (after.0 - before.0) / 2))
    }

    /// A connection to read on, or to do a single statement on.
    async fn client(&self) -> Result<Client> {
        self.pool.get().await
    }

    /// Does something in a transaction of its own. It may be done again, so that it must not change what it captures.
    async fn transact<I, T>(
        &self,
        input: I,
        work: impl for<'c> Fn(&'c Client, &'c I) -> Work<'c, T> + Send + Sync,
    ) -> Result<T>
    where
        I: Send + Sync,
        T: Send,
    {
        transaction::transact(&self.pool, &input, work).await
    }

    /// Does a single statement, which changes no more when it is done twice.
    async fn at_once<I, T>(
        &self,
        input: I,
        work: impl for<'c> Fn(&'c Client, &'c I) -> Work<'c, T> + Send + Sync,
    ) -> Result<T>
    where
        I: Send + Sync,
        T: Send,
    {
        transaction::once(&self.pool, &input, work).await
    }

    /// Remembers where the writes for a run belong that was claimed here.
    fn note_home(&self, run: &Run) {
        let home = Home {
            key: lane_key(&run.thread_id.to_string()),
            thread: Some(run.thread_id),
            plain: ending::is_plain(&run.kwargs, &run.metadata),
        };
        self.homes.insert(run.run_id, home);
    }

    /// Where the writes of the holder of a lease belong. Of a run that was claimed elsewhere nobody writes here.
    fn home(&self, lease: Lease) -> Home {
        let unknown = || Home { key: lane_key(&lease.run_id.to_string()), thread: None, plain: true };
        self.homes.get(&lease.run_id).unwrap_or_else(unknown)
    }
}

impl Connections for PostgresStorage {
    fn connections(&self) -> Vec<ConnectionState> {
        [("read", &self.pool), ("write", &self.lanes_pool)].map(|(purpose, pool)| state(purpose, pool)).into()
    }
}

fn state(purpose: &'static str, pool: &Pool) -> ConnectionState {
    let status = pool.status();
    ConnectionState {
        purpose,
        limit: status.max_size as u64,
        busy: status.size.saturating_sub(status.available) as u64,
        waiting: status.waiting as u64,
    }
}

/// The place in the order of writes of what concerns a thread, by its name.
fn lane_key(thread: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    thread.hash(&mut hasher);
    hasher.finish()
}

/// Whoever waits for an answer that nobody will give.
fn stopped() -> StorageError {
    StorageError::Unavailable("the database is closed".into())
}
