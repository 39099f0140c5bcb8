//! SQLite does what every backend must do, and lives in a folder.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../contract/mod.rs"]
mod contract;
mod privacy;
mod restarts;

use std::sync::Arc;

use tempfile::TempDir;
use threadyard_backends::SqliteStorage;
use threadyard_core::storage::Storage;

use contract::{at, run, success, thread};

/// A backend with nothing in it.
struct Backend {
    storage: Arc<dyn Storage>,
    folder: TempDir,
}

#[expect(clippy::unused_async, reason = "other backends are waited for")]
impl Backend {
    /// By how many bytes a stored value is longer than what it is made of.
    const SEAL: u64 = 0;

    async fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    /// Closes the storage and opens it again, as after the death of its process.
    async fn reopen(self) -> Self {
        drop(self.storage);
        Self::open(self.folder)
    }

    /// Whether items can be found by their meaning.
    async fn compares_vectors(&self) -> bool {
        true
    }

    fn open(folder: TempDir) -> Self {
        let storage = Arc::new(SqliteStorage::open(folder.path()).unwrap());
        Self { storage, folder }
    }
}
