//! Keeps the leases of running runs alive, stops those that are to go on no longer, and takes back runs whose leases
//! ended.

use std::{collections::HashMap, time::Duration};

use threadyard_core::{
    bus::Topic,
    ids::LeaseId,
    runs::{ExpireLeases, Halt, NewLease},
    runtime::StopReason,
};
use tokio::time::Instant;

use crate::{Engine, cancel::stop_reason};

/// How soon a stopping server notices that its last run has ended.
const LAST_RUN: Duration = Duration::from_millis(50);

impl Engine {
    /// A lease for a run that begins now.
    pub(crate) fn new_lease(&self) -> NewLease {
        NewLease { lease_id: LeaseId(self.ambient.random()), until: self.ambient.now() + self.settings.lease }
    }
}

pub(super) async fn run(engine: Engine) {
    let every = engine.settings.lease / 4;
    while !engine.stopping.is_cancelled() {
        let asked = engine.bus.woken(Topic::Cancels);
        extend(&engine).await;
        expire(&engine).await;
        tokio::select! {
            () = engine.stopping.cancelled() => {}
            () = asked => {}
            () = tokio::time::sleep(every) => {}
        }
    }
    // Runs that may go on while the server stops would else be taken up by another one.
    let mut due = Instant::now();
    while !engine.running.is_empty() {
        if due.elapsed() >= every {
            extend(&engine).await;
            due = Instant::now();
        }
        tokio::time::sleep(LAST_RUN).await;
    }
}

async fn extend(engine: &Engine) {
    let until = engine.ambient.now() + engine.settings.lease;
    let leases = engine.running.leases();
    match engine.storage.extend_leases(leases.clone(), until).await {
        Ok(halted) => {
            let halted: HashMap<_, _> = halted.into_iter().collect();
            for lease in leases {
                let Some(halt) = halted.get(&lease.run_id) else { continue };
                let reason = match halt {
                    Halt::Asked(action) => stop_reason(*action),
                    Halt::Lost => StopReason::Drain,
                };
                engine.running.stop_attempt(lease, reason);
            }
        }
        Err(error) => tracing::error!(%error, "leases could not be renewed"),
    }
}

async fn expire(engine: &Engine) {
    let expire = ExpireLeases { now: engine.ambient.now(), max_attempts: engine.settings.max_attempts };
    match engine.storage.expire_leases(expire).await {
        Ok(expired) => {
            for (run, ending) in expired.ended {
                tracing::warn!(%run.run_id, "the run ended because its server died too often or was asked to stop it");
                // Reading what is told may take long, and leases don't wait.
                let announcer = engine.clone();
                engine.background(async move { announcer.announce_ending(&run, &ending).await });
            }
            if !expired.requeued.is_empty() {
                tracing::warn!(runs = expired.requeued.len(), "runs whose server died are taken up again");
                engine.wake(Topic::Runs);
            }
        }
        Err(error) => tracing::error!(%error, "ended leases could not be looked for"),
    }
}
