//! What stands in front of a database when a project encrypts by itself: what users say there passes for nothing that was
//! encrypted, and what can't be decrypted stops nothing else.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod handlers;
mod markers;
mod others;
mod runs;

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use threadyard_backends::{SealedStorage, SqliteStorage};
use threadyard_core::{
    ids::{RunId, ThreadId},
    json::Object,
    sealing::SealingContext,
    storage::Storage,
    threads::NewThread,
    time::Timestamp,
};
use uuid::Uuid;

use handlers::Handlers;

/// A database, and what stands in front of it.
struct Sealed {
    inner: Arc<dyn Storage>,
    storage: SealedStorage,
    handlers: Arc<Handlers>,
    _folder: TempDir,
}

impl Sealed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inner: Arc<dyn Storage> = Arc::new(SqliteStorage::open(folder.path()).unwrap());
        let handlers = Arc::new(Handlers::leaving(&[]));
        let storage = SealedStorage::new(inner.clone(), handlers.clone());
        Self { inner, storage, handlers, _folder: folder }
    }

    async fn thread(&self, n: u64, metadata: Value) -> ThreadId {
        use threadyard_core::threads::Threads as _;
        let new = NewThread { thread_id: thread(n), metadata: object(metadata), ttl: None, now: at(0) };
        self.storage.create_thread(new).await.unwrap();
        thread(n)
    }
}

fn tenant(name: &str) -> SealingContext {
    object(json!({ "tenant": name })).into()
}

fn object(value: Value) -> Object {
    serde_json::from_value(value).unwrap()
}

fn thread(n: u64) -> ThreadId {
    ThreadId(Uuid::from_u64_pair(1, n))
}

fn run(n: u64) -> RunId {
    RunId(Uuid::from_u64_pair(2, n))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp(1_767_000_000_000_000 + seconds * 1_000_000)
}
