//! One run on one worker, as the engine sees it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use threadyard_core::{
    runtime::{RunSession, RuntimeError, SessionEvent, StopReason},
    stream::StreamEvent,
};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::{
    connection::{Connection, Said},
    protocol::{RunCancel, frame, kind},
    worker::Worker,
};

pub(crate) struct Session {
    pub(crate) connection: Arc<Connection>,
    pub(crate) slot: u64,
    pub(crate) said: mpsc::UnboundedReceiver<Said>,
    /// Something that was read while events were gathered.
    pub(crate) held: Option<Said>,
    /// Where the run is executed.
    pub(crate) worker: Arc<Worker>,
    /// There while the run has the worker for itself, which ends with it.
    pub(crate) own: Option<OwnWorker>,
}

/// A worker that goes with the one run it is there for.
pub(crate) struct OwnWorker {
    pub(crate) worker: Arc<Worker>,
    pub(crate) tasks: TaskTracker,
}

impl Drop for OwnWorker {
    fn drop(&mut self) {
        let worker = self.worker.clone();
        self.tasks.spawn(async move { worker.stop(Duration::ZERO).await });
    }
}

#[async_trait]
impl RunSession for Session {
    async fn next(&mut self) -> SessionEvent {
        {
            let said = match self.held.take() {
                Some(said) => Some(said),
                None => self.said.recv().await,
            };
            match said {
                Some(Said::Events(events)) => return SessionEvent::Events(self.gather(events)),
                Some(Said::End(end, commits)) => {
                    for commit in commits {
                        if let Err(error) = commit.await {
                            return SessionEvent::Lost(RuntimeError::Storage(error));
                        }
                    }
                    return SessionEvent::Ended(end);
                }
                Some(Said::StorageFailed(error)) => {
                    self.cancel(StopReason::Storage);
                    return SessionEvent::Lost(RuntimeError::Storage(error));
                }
                Some(Said::Lost(error)) => return SessionEvent::Lost(error),
                None => return SessionEvent::Lost(RuntimeError::WorkerLost("its session was closed".into())),
            }
        }
    }

    fn cancel(&self, reason: StopReason) {
        self.connection.send(frame(kind::RUN_CANCEL, self.slot, &RunCancel { reason }));
    }

    fn abandon(&self) {
        self.worker.abandon(self.slot);
    }
}

impl Session {
    /// Adds everything that was said meanwhile, so that readers get it in one piece.
    fn gather(&mut self, mut events: Vec<StreamEvent>) -> Vec<StreamEvent> {
        while let Ok(said) = self.said.try_recv() {
            match said {
                Said::Events(more) => events.extend(more),
                other => {
                    self.held = Some(other);
                    break;
                }
            }
        }
        events
    }
}

impl Drop for Session {
    /// A run that nobody listens to any more is stopped.
    fn drop(&mut self) {
        if self.connection.take(self.slot).is_some() {
            self.cancel(StopReason::Rollback);
        }
    }
}
