//! PostgreSQL does what every backend must do, and what several servers at once ask of it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod concurrency;
#[path = "../contract/mod.rs"]
mod contract;
mod database;
mod frozen;
mod limits;
mod outbox;
mod plans;
mod server;
mod sharing;
mod upgrades;

use std::sync::Arc;

use threadyard_backends::PostgresStorage;
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
    const SEAL: u64 = 0;

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
        let storage = Arc::new(PostgresStorage::open(&database.config()).await.unwrap());
        Self { storage, database }
    }
}
