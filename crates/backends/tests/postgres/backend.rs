//! An empty PostgreSQL backend, opened as its test target says.

use std::sync::Arc;

use threadyard_core::storage::Storage;

use crate::database::Database;

/// A backend with nothing in it.
pub(crate) struct Backend {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) database: Database,
}

impl Backend {
    pub(crate) async fn new() -> Self {
        Self::open(Database::new().await).await
    }

    /// Closes the storage and opens it again, as after the death of its process.
    pub(crate) async fn reopen(self) -> Self {
        drop(self.storage);
        Self::open(self.database).await
    }

    /// Whether items can be found by their meaning.
    pub(crate) async fn compares_vectors(&self) -> bool {
        self.database.has_vectors().await
    }

    async fn open(database: Database) -> Self {
        Self { storage: crate::opened(&database.config()).await, database }
    }
}
