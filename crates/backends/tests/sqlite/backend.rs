//! An empty SQLite backend, opened as its test target says.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tempfile::TempDir;
use threadyard_backends::SqliteStorage;
use threadyard_core::storage::Storage;

/// A backend with nothing in it.
pub(crate) struct Backend {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) folder: TempDir,
    database: Weak<SqliteStorage>,
}

impl Backend {
    #[expect(clippy::unused_async, reason = "other backends are waited for")]
    pub(crate) async fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    /// Closes the storage and opens it again, as after the death of its process.
    pub(crate) async fn reopen(self) -> Self {
        let Self { storage, folder, database } = self;
        drop(storage);
        let closed = async {
            while database.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), closed).await.expect("something still holds the storage");
        Self::open(folder)
    }

    /// Whether items can be found by their meaning.
    #[expect(clippy::unused_async, reason = "other backends are waited for")]
    pub(crate) async fn compares_vectors(&self) -> bool {
        true
    }

    fn open(folder: TempDir) -> Self {
        let (storage, database) = crate::opened(folder.path());
        Self { storage, folder, database }
    }
}
