//! SQLite does what every backend must do, and lives in a folder.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod backend;
#[path = "../contract/mod.rs"]
mod contract;
mod privacy;
#[path = "../contract/push_configs.rs"]
mod push_configs;
mod restarts;

use std::{
    path::Path,
    sync::{Arc, Weak},
};

use threadyard_backends::SqliteStorage;
use threadyard_core::storage::Storage;

use backend::Backend;
use contract::{at, run, success, thread};

/// By how many bytes a stored value is longer than what it is made of.
const SEAL: u64 = 0;
/// Whether handlers of a project encrypt in front of it.
const HANDLERS: bool = false;

fn opened(folder: &Path) -> (Arc<dyn Storage>, Weak<SqliteStorage>) {
    let storage = Arc::new(SqliteStorage::open(folder).unwrap());
    (storage.clone(), Arc::downgrade(&storage))
}
