//! Takes runs from the queue and has them executed.

use threadyard_core::{
    bus::Topic,
    runs::{ClaimRuns, NewLease},
    time::Timestamp,
};

use crate::{Engine, run_task};

pub(super) async fn run(engine: Engine) {
    while !engine.stopping.is_cancelled() {
        let wake = engine.bus.woken(Topic::Runs);
        let due = tick(&engine).await;
        if !super::wait(&engine, wake, due).await {
            return;
        }
    }
}

/// Starts what is due and fits. Returns when the next run becomes due.
async fn tick(engine: &Engine) -> Option<Timestamp> {
    loop {
        // Where there is none, a run that ends wakes this loop.
        let mut room = engine.slots.take_half()?;
        let NewLease { lease_id, until } = engine.new_lease();
        let claim = ClaimRuns { lease_id, limit: room.count(), now: engine.ambient.now(), until };
        let claimed = match engine.settings.run_limits.running {
            limits if limits.limits() => engine.storage.claim_runs_within(limits, claim).await,
            _ => engine.storage.claim_runs(claim).await,
        };
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(%error, "runs could not be claimed; trying again");
                return None;
            }
        };
        for claimed in claimed.runs {
            let Some(slot) = room.one() else { break };
            run_task::begin(engine, claimed, slot);
        }
        let more_may_wait = room.count() == 0;
        engine.slots.set_runs_wait(more_may_wait);
        if !more_may_wait {
            return claimed.next_due;
        }
    }
}
