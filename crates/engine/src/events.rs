//! What an attempt of a run says: kept first when the run is resumable, then told to who listens.

use threadyard_core::{
    events::kept_id,
    runs::{ClaimedRun, Lease},
    storage::Result,
    stream::{EventId, StreamEvent},
};

use crate::Engine;

/// The voice of one attempt.
pub(crate) struct Voice {
    engine: Engine,
    lease: Lease,
    keeps: bool,
    /// The id of the next event.
    next: EventId,
}

impl Voice {
    /// Opens the stream of a run, or goes on behind what earlier attempts said.
    pub(crate) fn of(engine: &Engine, claimed: &ClaimedRun) -> Self {
        let run = &claimed.run;
        let keeps = run.kwargs.resumable;
        let open = engine.bus.open(run.run_id, run.thread_id);
        let next = if keeps { kept_id(run, claimed.said + 1) } else { open };
        Self { engine: engine.clone(), lease: claimed.lease, keeps, next }
    }

    /// Says events. Who has heard one of a resumable run can come back behind it, whatever dies meanwhile.
    pub(crate) async fn say(&mut self, events: Vec<StreamEvent>) -> Result<()> {
        if self.keeps {
            self.engine.storage.keep_events(self.lease, self.next.seq, events.clone()).await?;
        }
        self.tell(events);
        Ok(())
    }

    /// Tells events that storage has by itself.
    pub(crate) fn tell(&mut self, events: Vec<StreamEvent>) {
        let first = self.next;
        self.next.seq += events.len() as u64;
        self.engine.bus.append(self.lease.run_id, first, events);
    }
}
