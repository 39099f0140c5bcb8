//! SQLite does what every backend must do when what it stores is encrypted, too.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../contract/mod.rs"]
mod contract;

use std::sync::Arc;

use tempfile::TempDir;
use threadyard_backends::{AesKey, Cipher, SqliteStorage};
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
    const SEAL: u64 = 48;

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
        let key = AesKey::read("LANGGRAPH_AES_KEY", "a key of 32 bytes, as it must be").unwrap();
        let storage = SqliteStorage::open_with(folder.path(), &Cipher::new(key, Vec::new())).unwrap();
        Self { storage: Arc::new(storage), folder }
    }
}
