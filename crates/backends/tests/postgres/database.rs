//! A database for each test, copied from one that is migrated once for each state of the migrations.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use threadyard_backends::{PostgresConfig, PostgresStorage};
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use crate::server;

/// Whoever makes the template, or cleans up, holds the lock of this number.
const PREPARING: i64 = 0x7468_7265_6164_7465;
/// So many seconds old, a database whose process is gone here is nobody's.
const OLD: i64 = 600;

static MADE: AtomicU32 = AtomicU32::new(0);

/// A database of its own, which goes with this value.
pub(crate) struct Database {
    name: String,
}

impl Database {
    pub(crate) async fn new() -> Self {
        let admin = connect("postgres").await;
        let template = template(&admin).await;
        let row = admin.query_one("SELECT extract(epoch FROM now())::bigint", &[]).await.unwrap();
        let (now, nth): (i64, u32) = (row.get(0), MADE.fetch_add(1, Ordering::Relaxed));
        let name = format!("threadyard_test_{now}_{}_{nth}", std::process::id());
        admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await.unwrap();
        // No test loses power.
        admin.batch_execute(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await.unwrap();
        Self { name }
    }

    pub(crate) fn config(&self) -> PostgresConfig {
        config(&self.name)
    }

    /// A connection that nobody else has.
    pub(crate) async fn client(&self) -> Client {
        connect(&self.name).await
    }

    /// Whether vectors can be held: if the extension is there, it is installed.
    pub(crate) async fn has_vectors(&self) -> bool {
        let client = self.client().await;
        let found = client.query_opt("SELECT FROM pg_available_extensions WHERE name = 'vector'", &[]).await.unwrap();
        if found.is_some() {
            client.batch_execute("CREATE EXTENSION IF NOT EXISTS vector").await.unwrap();
        }
        found.is_some()
    }

    /// Lets nobody in, and ends the connections of those who are; or lets them in again.
    pub(crate) async fn close_to_everybody(&self, closed: bool) {
        let change = format!("ALTER DATABASE {} ALLOW_CONNECTIONS {}", self.name, !closed);
        connect("postgres").await.batch_execute(&change).await.unwrap();
        self.end_connections().await;
    }

    /// Ends all connections. They tell what they did when they end.
    pub(crate) async fn end_connections(&self) {
        let sql = "SELECT pg_terminate_backend(pid, 120000) FROM pg_stat_activity WHERE datname = $1";
        connect("postgres").await.query(sql, &[&self.name]).await.unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let name = self.name.clone();
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                connect("postgres").await.batch_execute(&drop).await.unwrap();
            });
        });
        if dropped.join().is_err() {
            eprintln!("the database `{}` is left behind", self.name);
        }
    }
}

fn config(database: &str) -> PostgresConfig {
    PostgresConfig::parse(&server::uri(database)).unwrap()
}

/// A connection to a database, which ends with its client.
async fn connect(database: &str) -> Client {
    let (client, connection) = config(database).connect().await.unwrap();
    TaskTracker::new().spawn(connection);
    client
}

/// The database to copy, made if need be.
async fn template(admin: &Client) -> String {
    let name = format!("threadyard_template_{:016x}", migrations());
    admin.execute("SELECT pg_advisory_lock($1)", &[&PREPARING]).await.unwrap();
    let found = admin.query_opt("SELECT FROM pg_database WHERE datname = $1", &[&name]).await.unwrap();
    if found.is_none() {
        // Under another name until it is complete.
        let unfinished = format!("{name}_unfinished");
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)")).await.unwrap();
        admin.batch_execute(&format!("CREATE DATABASE {unfinished}")).await.unwrap();
        PostgresStorage::migrate(&config(&unfinished)).await.unwrap();
        admin.batch_execute(&format!("ALTER DATABASE {unfinished} RENAME TO {name}")).await.unwrap();
    }
    clean_up(admin).await;
    admin.execute("SELECT pg_advisory_unlock($1)", &[&PREPARING]).await.unwrap();
    name
}

/// What the migrations are, in a number.
fn migrations() -> u64 {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/postgres/migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        std::fs::read_to_string(file).unwrap().hash(&mut hasher);
    }
    hasher.finish()
}

/// Drops what tests left that were killed.
async fn clean_up(admin: &Client) {
    let sql = "SELECT datname, split_part(datname, '_', 4) AS process FROM pg_database
         WHERE datname ~ '^threadyard_test_\\d+_\\d+_\\d+$'
             AND split_part(datname, '_', 3)::bigint < extract(epoch FROM now()) - $1::bigint";
    for row in admin.query(sql, &[&OLD]).await.unwrap() {
        let (name, process): (String, String) = (row.get(0), row.get(1));
        if !Path::new("/proc").join(process).exists() {
            admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.unwrap();
        }
    }
}
