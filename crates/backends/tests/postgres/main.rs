//! PostgreSQL does what every backend must do, and what several servers at once ask of it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod backend;
mod concurrency;
#[path = "../contract/mod.rs"]
mod contract;
mod database;
mod frozen;
mod limits;
mod outbox;
mod plans;
#[path = "../contract/push_configs.rs"]
mod push_configs;
mod server;
mod sharing;
mod upgrades;

use std::sync::Arc;

use threadyard_backends::{PostgresConfig, PostgresStorage};
use threadyard_core::storage::Storage;

use backend::Backend;
use contract::{at, run, success, thread};

/// By how many bytes a stored value is longer than what it is made of.
const SEAL: u64 = 0;
/// Whether handlers of a project encrypt in front of it.
const HANDLERS: bool = false;

async fn opened(config: &PostgresConfig) -> Arc<dyn Storage> {
    Arc::new(PostgresStorage::open(config).await.unwrap())
}
