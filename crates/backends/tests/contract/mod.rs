//! What every backend must do; a new one is done when these pass for it. Each has a test target of its own, which defines
//! `Backend`, `SEAL` and `HANDLERS`, and includes this. Push configs are a part of their own, since there are none behind handlers.

mod access;
mod agent_tasks;
mod api_keys;
mod assistants;
mod checkpoints;
mod connections;
pub(crate) mod crons;
mod deliveries;
mod events;
mod grown_values;
mod items;
mod limits;
mod prompt_claims;
mod queue;
mod retention;
mod thread_search;
mod threads;
mod webhook_keys;
pub(crate) mod webhooks;

use std::time::Duration;

use futures_util::future::join_all;
use threadyard_core::{
    ids::{LeaseId, RunId, ThreadId},
    json::Object,
    runs::{ClaimRuns, ClaimedRun, EndStatus, Ending},
    threads::NewThread,
    time::Timestamp,
};
use uuid::Uuid;

use crate::Backend;

impl Backend {
    pub(crate) async fn thread(&self, n: u64) -> ThreadId {
        let thread_id = thread(n);
        let new = NewThread { thread_id, metadata: Object::new(), ttl: None, now: at(0) };
        self.storage.create_thread(new).await.unwrap();
        thread_id
    }

    /// Claims runs as who executes them does.
    pub(crate) async fn claim(&self, limit: u32, now: Timestamp) -> Vec<ClaimedRun> {
        let lease_id = LeaseId(Uuid::from_u64_pair(3, now.0.unsigned_abs()));
        let claim = ClaimRuns { lease_id, limit, now, until: now + Duration::from_secs(30) };
        let claimed = self.storage.claim_runs(claim).await.unwrap().runs;
        join_all(claimed.into_iter().map(|it| async { self.storage.open_claimed(it).await.unwrap() })).await
    }
}

pub(crate) fn thread(n: u64) -> ThreadId {
    ThreadId(Uuid::from_u64_pair(1, n))
}

pub(crate) fn run(n: u64) -> RunId {
    RunId(Uuid::from_u64_pair(2, n))
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp(1_767_000_000_000_000 + seconds * 1_000_000)
}

pub(crate) fn success(now: Timestamp) -> Ending {
    Ending {
        status: EndStatus::Success,
        error: None,
        cause: None,
        values: None,
        thread: None,
        at: now,
        unsealed: false,
    }
}
