//! PostgreSQL does what every backend must do when what it stores is encrypted, too.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../postgres/backend.rs"]
mod backend;
#[path = "../contract/mod.rs"]
mod contract;
#[path = "../postgres/database.rs"]
#[expect(dead_code, reason = "these tests need less of it")]
mod database;
#[path = "../contract/push_configs.rs"]
mod push_configs;
#[path = "../postgres/server.rs"]
mod server;

use std::sync::Arc;

use threadyard_backends::{AesKey, Cipher, PostgresConfig, PostgresStorage};
use threadyard_core::storage::Storage;

use backend::Backend;
use contract::{at, run, success, thread};

/// By how many bytes a stored value is longer than what it is made of.
const SEAL: u64 = 48;
/// Whether handlers of a project encrypt in front of it.
const HANDLERS: bool = false;

async fn opened(config: &PostgresConfig) -> Arc<dyn Storage> {
    let key = AesKey::read("LANGGRAPH_AES_KEY", "a key of 32 bytes, as it must be").unwrap();
    Arc::new(PostgresStorage::open_with(config, &Cipher::new(key, Vec::new())).await.unwrap())
}
