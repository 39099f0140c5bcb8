//! What every backend must do; a new one is done when these pass for it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod assistants;
mod checkpoints;
mod crons;
mod deliveries;
mod events;
mod grown_values;
mod items;
mod queue;
mod retention;
mod thread_search;
mod threads;
mod webhook_keys;
mod webhooks;

use std::{sync::Arc, time::Duration};

use tempfile::TempDir;
use threadyard_backends::SqliteStorage;
use threadyard_core::{
    ids::{LeaseId, RunId, ThreadId},
    json::Object,
    runs::{ClaimRuns, ClaimedRun, EndStatus, Ending},
    storage::Storage,
    threads::NewThread,
    time::Timestamp,
};
use uuid::Uuid;

/// A backend with nothing in it.
struct Backend {
    storage: Arc<dyn Storage>,
    folder: TempDir,
}

impl Backend {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Arc::new(SqliteStorage::open(folder.path()).unwrap());
        Self { storage, folder }
    }

    /// Closes the storage and opens it again, as after the death of its process.
    fn reopen(self) -> Self {
        drop(self.storage);
        let storage = Arc::new(SqliteStorage::open(self.folder.path()).unwrap());
        Self { storage, folder: self.folder }
    }

    async fn thread(&self, n: u64) -> ThreadId {
        let thread_id = thread(n);
        let new = NewThread { thread_id, metadata: Object::new(), ttl: None, now: at(0) };
        self.storage.create_thread(new).await.unwrap();
        thread_id
    }

    async fn claim(&self, limit: u32, now: Timestamp) -> Vec<ClaimedRun> {
        let lease_id = LeaseId(Uuid::from_u64_pair(3, now.0.unsigned_abs()));
        let claim = ClaimRuns { lease_id, limit, now, until: now + Duration::from_secs(30) };
        self.storage.claim_runs(claim).await.unwrap().runs
    }
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

fn success(now: Timestamp) -> Ending {
    Ending { status: EndStatus::Success, error: None, cause: None, values: None, thread: None, at: now }
}
