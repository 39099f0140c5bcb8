//! SQLite does what every backend must do behind handlers of a project's own, too.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../sqlite/backend.rs"]
mod backend;
#[path = "../contract/mod.rs"]
mod contract;
#[path = "../sealed/handlers.rs"]
#[expect(dead_code, reason = "these tests need less of it")]
mod handlers;

use std::{
    path::Path,
    sync::{Arc, Weak},
};

use threadyard_backends::{Cipher, SealedStorage, SqliteStorage};
use threadyard_core::storage::Storage;

use backend::Backend;
use contract::{at, run, success, thread};
use handlers::Handlers;

/// By how many bytes a stored value is longer than what it is made of.
const SEAL: u64 = 60;
/// Whether handlers of a project encrypt in front of it.
const HANDLERS: bool = true;

fn opened(folder: &Path) -> (Arc<dyn Storage>, Weak<SqliteStorage>) {
    let inner = Arc::new(SqliteStorage::open_with(folder, &Cipher::none().behind_handlers()).unwrap());
    let database = Arc::downgrade(&inner);
    // What searches go by.
    let handlers = Handlers::leaving(&["metadata", "values", "value"]);
    (Arc::new(SealedStorage::new(inner, Arc::new(handlers))), database)
}
