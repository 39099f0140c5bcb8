//! What an attempt of a run says: kept first when the run is resumable, then told to who listens.

use threadyard_core::{
    events::kept_id,
    ids::ThreadId,
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

    /// Moves to a block of the thread's own, unless an earlier attempt did. Says whether it is new.
    pub(crate) async fn begin_block(&mut self, thread_id: ThreadId) -> Result<bool> {
        let new = self.next.seq == 1;
        if new {
            self.next.seq += self.engine.storage.begin_block(thread_id).await?;
        }
        Ok(new)
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
