//! SQLite does what every backend must do when what it stores is encrypted, too.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../sqlite/backend.rs"]
mod backend;
#[path = "../contract/mod.rs"]
mod contract;
#[path = "../contract/push_configs.rs"]
mod push_configs;

use std::{
    path::Path,
    sync::{Arc, Weak},
};

use threadyard_backends::{AesKey, Cipher, SqliteStorage};
use threadyard_core::storage::Storage;

use backend::Backend;
use contract::{at, run, success, thread};

/// By how many bytes a stored value is longer than what it is made of.
const SEAL: u64 = 48;
/// Whether handlers of a project encrypt in front of it.
const HANDLERS: bool = false;

fn opened(folder: &Path) -> (Arc<dyn Storage>, Weak<SqliteStorage>) {
    let key = AesKey::read("LANGGRAPH_AES_KEY", "a key of 32 bytes, as it must be").unwrap();
    let storage = Arc::new(SqliteStorage::open_with(folder, &Cipher::new(key, Vec::new())).unwrap());
    (storage.clone(), Arc::downgrade(&storage))
}
