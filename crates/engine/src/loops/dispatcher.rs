//! Takes runs from the queue and has them executed.

use std::sync::Arc;

use threadyard_core::{bus::Topic, ids::LeaseId, runs::ClaimRuns, time::Timestamp};
use tokio::sync::Semaphore;

use crate::{Engine, run_task};

pub(super) async fn run(engine: Engine) {
    let slots = Arc::new(Semaphore::new(engine.settings.concurrency as usize));
    while !engine.stopping.is_cancelled() {
        let wake = engine.bus.woken(Topic::Runs);
        let due = tick(&engine, &slots).await;
        if !super::wait(&engine, wake, due).await {
            return;
        }
    }
}

/// Starts what is due and fits. Returns when the next run becomes due.
async fn tick(engine: &Engine, slots: &Arc<Semaphore>) -> Option<Timestamp> {
    let free = u32::try_from(slots.available_permits()).unwrap_or(u32::MAX);
    if free == 0 {
        // A run that ends wakes this loop.
        return None;
    }
    let now = engine.ambient.now();
    let lease_id = LeaseId(engine.ambient.random());
    let claim = ClaimRuns { lease_id, limit: free, now, until: now + engine.settings.lease };
    let claimed = match engine.storage.claim_runs(claim).await {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::error!(%error, "runs could not be claimed; trying again");
            return None;
        }
    };
    for claimed_run in claimed.runs {
        let Ok(permit) = slots.clone().try_acquire_owned() else { break };
        let engine = engine.clone();
        engine.tasks.clone().spawn(async move {
            run_task::drive(engine.clone(), claimed_run).await;
            drop(permit);
            engine.bus.wake(Topic::Runs);
        });
    }
    claimed.next_due
}
