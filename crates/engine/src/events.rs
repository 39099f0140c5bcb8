//! What an attempt of a run says: kept first when the run is resumable, then told to who listens.

use threadyard_core::{
    events::kept_id,
    ids::ThreadId,
    runs::{ClaimedRun, Lease, Run},
    storage::Result,
    stream::{EventId, StreamEvent},
};

use crate::Engine;

/// The voice of one attempt.
pub(crate) struct Voice {
    engine: Engine,
    lease: Lease,
    keeps: bool,
    /// Whether the run has said something, in this attempt or before.
    spoke: bool,
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
        Self { engine: engine.clone(), lease: claimed.lease, keeps, spoke: claimed.said > 0, next }
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

    /// Tells what the stream closes with, which storage has by itself.
    pub(crate) async fn tell_last(&mut self, run: &Run, last: StreamEvent) {
        if self.keeps && !self.spoke && run.kwargs.event_streaming() {
            // Nobody knows here which block of the thread's it is in.
            self.engine.tell_only_word(run, Some(last)).await;
        } else {
            self.tell(vec![last]);
        }
    }

    fn tell(&mut self, events: Vec<StreamEvent>) {
        let first = self.next;
        self.next.seq += events.len() as u64;
        self.spoke = true;
        self.engine.bus.append(self.lease.run_id, first, events);
    }
}
