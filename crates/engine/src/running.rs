//! The runs that this server executes, and how to stop them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use threadyard_core::{ids::RunId, runs::Lease, runtime::StopReason};
use tokio::sync::mpsc;

/// The runs that are executed here.
#[derive(Default)]
pub(crate) struct RunningRuns(Mutex<HashMap<RunId, Running>>);

struct Running {
    lease: Lease,
    stop: mpsc::UnboundedSender<StopReason>,
}

impl RunningRuns {
    /// Asks a run to stop, if it is executed here. Says whether it is.
    pub(crate) fn stop(&self, run_id: RunId, reason: StopReason) -> bool {
        self.lock().get(&run_id).is_some_and(|run| run.stop.send(reason).is_ok())
    }

    /// Asks one attempt at a run to stop, and not another one that has taken its place meanwhile.
    pub(crate) fn stop_attempt(&self, lease: Lease, reason: StopReason) {
        if let Some(run) = self.lock().get(&lease.run_id).filter(|run| run.lease == lease) {
            let _ = run.stop.send(reason);
        }
    }

    /// Whether no run is executed.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Asks every run to hand over.
    pub(crate) fn drain(&self) {
        for run in self.lock().values() {
            let _ = run.stop.send(StopReason::Drain);
        }
    }

    /// The leases of all runs.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.lock().values().map(|run| run.lease).collect()
    }

    pub(crate) fn enter(&self, lease: Lease) -> mpsc::UnboundedReceiver<StopReason> {
        let (stop, receiver) = mpsc::unbounded_channel();
        self.lock().insert(lease.run_id, Running { lease, stop });
        receiver
    }

    /// Leaves, unless another attempt has taken the place.
    pub(crate) fn leave(&self, lease: Lease) {
        let mut running = self.lock();
        if running.get(&lease.run_id).is_some_and(|entry| entry.lease == lease) {
            running.remove(&lease.run_id);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use threadyard_core::ids::LeaseId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn who_lost_a_lease_is_stopped_and_not_who_took_the_run_over() {
        let [first, second] =
            [1, 2].map(|n| Lease { run_id: RunId(Uuid::nil()), lease_id: LeaseId(Uuid::from_u128(n)) });
        let running = RunningRuns::default();
        let _overtaken = running.enter(first);
        let mut stopped = running.enter(second);
        running.stop_attempt(first, StopReason::Drain);
        assert!(stopped.try_recv().is_err());
        running.stop_attempt(second, StopReason::Drain);
        assert_eq!(stopped.try_recv(), Ok(StopReason::Drain));
    }
}
