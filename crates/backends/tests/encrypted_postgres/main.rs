//! PostgreSQL does what every backend must do when what it stores is encrypted, too.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../contract/mod.rs"]
mod contract;
#[path = "../postgres/database.rs"]
#[expect(dead_code, reason = "these tests need less of it")]
mod database;
#[path = "../postgres/server.rs"]
mod server;

use std::sync::Arc;

use threadyard_backends::{AesKey, Cipher, PostgresStorage};
use threadyard_core::storage::Storage;

use contract::{at, run, success, thread};
use database::Database;

/// A backend with nothing in it.
struct Backend {
    storage: Arc<dyn Storage>,
    database: Database,
}

impl Backend {
    /// By how many bytes a stored value is longer than what it is made of.
    const SEAL: u64 = 48;

    async fn new() -> Self {
        Self::open(Database::new().await).await
    }

    /// Closes the storage and opens it again, as after the death of its process.
    async fn reopen(self) -> Self {
        drop(self.storage);
        Self::open(self.database).await
    }

    /// Whether items can be found by their meaning.
    async fn compares_vectors(&self) -> bool {
        self.database.has_vectors().await
    }

    async fn open(database: Database) -> Self {
        let key = AesKey::read("LANGGRAPH_AES_KEY", "a key of 32 bytes, as it must be").unwrap();
        let cipher = Cipher::new(key, Vec::new());
        let storage = PostgresStorage::open_with(&database.config(), &cipher).await.unwrap();
        Self { storage: Arc::new(storage), database }
    }
}
