//! Stopping runs before their end.

use threadyard_core::{
    bus::From,
    cancel::{CancelAction, CancelCause, CancelRequest, CancelRun, CancelledRun},
    ids::{RunId, ThreadId},
    metadata_filter::MetadataFilter,
    runs::RunStatus,
    runtime::StopReason,
};

use crate::{Engine, Error, Result};

/// Which runs to stop together.
#[derive(Clone, Debug)]
pub enum CancelRuns {
    /// These of one thread.
    OfThread(ThreadId, Vec<RunId>),
    /// All that are pending, all that are running, or both.
    WithStatus(Option<RunStatus>),
}

impl Engine {
    /// Stops a run. With `wait`, returns when it has truly ended.
    pub async fn cancel_run(&self, thread_id: ThreadId, run_id: RunId, action: CancelAction, wait: bool) -> Result<()> {
        let within = self.permit_cancel(Some(thread_id), Some(&[run_id]), action.as_str()).await?;
        self.stop_run((thread_id, within), run_id, asked_for(action), wait).await
    }

    /// Whether the caller may have a run stopped by going away.
    pub async fn may_abandon(&self, thread_id: ThreadId, run_id: RunId) -> Result<()> {
        let action = CancelAction::Interrupt.as_str();
        let filter = self.permit_cancel(Some(thread_id), Some(&[run_id]), action).await?;
        if self.is_restricted() {
            let thread = self.storage.thread(thread_id).await?;
            thread.filter(|thread| filter.admits(&thread.metadata)).ok_or(Error::NotFound("run"))?;
        }
        Ok(())
    }

    /// Stops a run because the client that asked for it has gone.
    pub async fn cancel_abandoned_run(&self, thread_id: ThreadId, run_id: RunId) -> Result<()> {
        let reason = "client disconnected from the run stream (on_disconnect=cancel)".into();
        let cancel = CancelRequest { action: CancelAction::Interrupt, reason, cause: CancelCause::Disconnect };
        match self.stop_run((thread_id, MetadataFilter::default()), run_id, cancel, false).await {
            Err(Error::NotFound(_)) => Ok(()),
            outcome => outcome,
        }
    }

    /// Stops several runs at once. An error when there is none to stop.
    pub async fn cancel_runs(&self, which: CancelRuns, action: CancelAction) -> Result<()> {
        let within = match &which {
            CancelRuns::OfThread(thread, runs) => {
                self.permit_cancel(Some(*thread), Some(runs), action.as_str()).await?
            }
            CancelRuns::WithStatus(_) => self.permit_cancel(None, None, action.as_str()).await?,
        };
        let runs: Vec<_> = match which {
            CancelRuns::OfThread(thread, runs) => runs.into_iter().map(|run| (thread, run)).collect(),
            CancelRuns::WithStatus(status) => self.storage.open_runs(status).await?,
        };
        let mut found = false;
        for (thread, run) in runs {
            match self.stop_run((thread, within.clone()), run, asked_for(action), false).await {
                Ok(()) => found = true,
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if found { Ok(()) } else { Err(Error::NotFound("run to cancel")) }
    }

    async fn stop_run(
        &self,
        (thread_id, within): (ThreadId, MetadataFilter),
        run_id: RunId,
        cancel: CancelRequest,
        wait: bool,
    ) -> Result<()> {
        // Subscribed before the request is stored, so that the end is not missed.
        let run = if wait { self.storage.unopened_run(run_id).await? } else { None };
        let end = match run.filter(|run| run.thread_id == thread_id) {
            Some(run) => self.follow(&run, From::Now).await?,
            None => None,
        };
        let stop = stop_reason(cancel.action);
        match self
            .storage
            .cancel_run(CancelRun { thread_id, run_id, within, request: cancel, now: self.ambient.now() })
            .await?
        {
            CancelledRun::Missing | CancelledRun::Finished => return Err(Error::NotFound("run")),
            CancelledRun::Ended => self.announce_ended(run_id).await,
            CancelledRun::Stopping => {
                self.tell_to_stop(run_id, stop);
                if let Some(mut end) = end {
                    while !matches!(end.next().await, threadyard_core::bus::Received::Closed(_)) {}
                }
            }
        }
        Ok(())
    }
}

/// The request of somebody who asks for it.
fn asked_for(action: CancelAction) -> CancelRequest {
    let reason = format!("{} requested via POST /threads/{{thread_id}}/runs/{{run_id}}/cancel", action.as_str());
    CancelRequest { action, reason, cause: CancelCause::User }
}

/// How a running run is told to stop for this.
pub(crate) fn stop_reason(action: CancelAction) -> StopReason {
    match action {
        CancelAction::Interrupt => StopReason::Interrupt,
        CancelAction::Rollback => StopReason::Rollback,
    }
}

/// The request of a run whose row is gone.
pub(crate) fn by_deletion(action: CancelAction) -> CancelRequest {
    CancelRequest { action, reason: "the run was deleted".into(), cause: CancelCause::User }
}
