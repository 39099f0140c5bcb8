//! Runs: what they are executed with, and what they leave.

use async_trait::async_trait;
use futures_util::future::{try_join, try_join_all};
use threadyard_core::{
    cancel::{CancelRequest, CancelRun, CancelledRun},
    ids::{RunId, ThreadId},
    json::Value,
    limits::{PerOwner, QueueFull},
    metadata_filter::MetadataFilter,
    page::{Page, Window},
    runs::{
        ClaimRuns, ClaimedRun, ClaimedRuns, CreatedRun, Ending, ExpireLeases, ExpiredRuns, GivenBack, Halt, Lease,
        NewRun, QueueStats, Run, RunError, RunQuery, RunStatus, Runs,
    },
    sealing::{CONTEXT_KEY, SealingContext},
    storage::{Result, StorageError},
    time::Timestamp,
};

use super::{SealedStorage, opener::Opener, page, sealer::Sealer};

#[async_trait]
impl Runs for SealedStorage {
    async fn create_run(&self, new: NewRun) -> Result<CreatedRun> {
        let new = self.sealer().new_run(new).await?;
        Ok(created_in_context(self.inner.create_run(new).await?))
    }

    async fn queue_stats(&self, now: Timestamp) -> Result<QueueStats> {
        self.inner.queue_stats(now).await
    }

    async fn create_runs(&self, new: Vec<NewRun>) -> Result<Result<(), QueueFull>> {
        let sealer = self.sealer();
        let new = try_join_all(new.into_iter().map(|new| sealer.new_run(new))).await?;
        self.inner.create_runs(new).await
    }

    async fn run(&self, thread_id: ThreadId, run_id: RunId) -> Result<Option<Run>> {
        self.opener().perhaps_run(self.inner.run(thread_id, run_id).await?).await
    }

    async fn run_by_id(&self, run_id: RunId) -> Result<Option<Run>> {
        self.opener().perhaps_run(self.inner.run_by_id(run_id).await?).await
    }

    async fn unopened_run(&self, run_id: RunId) -> Result<Option<Run>> {
        self.inner.unopened_run(run_id).await
    }

    async fn search_runs(&self, query: RunQuery, window: Window) -> Result<Page<Run>> {
        let opener = self.opener();
        page(self.inner.search_runs(query, window).await?, |found| opener.run(found)).await
    }

    async fn open_runs(&self, status: Option<RunStatus>) -> Result<Vec<(ThreadId, RunId)>> {
        self.inner.open_runs(status).await
    }

    async fn claim_runs(&self, claim: ClaimRuns) -> Result<ClaimedRuns> {
        Ok(in_context(self.inner.claim_runs(claim).await?))
    }

    async fn claim_runs_within(&self, limits: PerOwner, claim: ClaimRuns) -> Result<ClaimedRuns> {
        Ok(in_context(self.inner.claim_runs_within(limits, claim).await?))
    }

    async fn open_claimed(&self, claimed: ClaimedRun) -> Result<ClaimedRun> {
        self.opener().claimed(claimed).await
    }

    async fn extend_leases(&self, leases: Vec<Lease>, until: Timestamp) -> Result<Vec<(RunId, Halt)>> {
        self.inner.extend_leases(leases, until).await
    }

    async fn finish_run(&self, lease: Lease, ending: Ending) -> Result<bool> {
        let ending = self.sealer().ending(ending).await?;
        self.inner.finish_run(lease, ending).await
    }

    async fn requeue_run(&self, lease: Lease, why: GivenBack, now: Timestamp) -> Result<()> {
        self.inner.requeue_run(lease, why, now).await
    }

    async fn expire_leases(&self, expire: ExpireLeases) -> Result<ExpiredRuns> {
        self.inner.expire_leases(expire).await
    }

    async fn cancel_run(&self, cancel_run: CancelRun) -> Result<CancelledRun> {
        self.inner.cancel_run(cancel_run).await
    }

    async fn cancel_request(&self, run_id: RunId) -> Result<Option<CancelRequest>> {
        self.inner.cancel_request(run_id).await
    }

    async fn delete_run(
        &self,
        thread_id: ThreadId,
        run_id: RunId,
        within: MetadataFilter,
    ) -> Result<Option<RunStatus>> {
        self.inner.delete_run(thread_id, run_id, within).await
    }
}

/// Each run with the context that it was made under. What users say in it is opened by who executes it: no handler holds up
/// who looks at the queue, or makes runs.
fn in_context(claimed: ClaimedRuns) -> ClaimedRuns {
    ClaimedRuns { runs: claimed.runs.into_iter().map(with_context).collect(), ..claimed }
}

fn with_context(claimed: ClaimedRun) -> ClaimedRun {
    ClaimedRun { sealing: context_of(&claimed.run), ..claimed }
}

/// The same of a run that was claimed as it was made.
pub(super) fn created_in_context(created: CreatedRun) -> CreatedRun {
    match created {
        CreatedRun::Created { ended, stopping, claimed } => {
            let claimed = claimed.map(|claimed| Box::new(with_context(*claimed)));
            CreatedRun::Created { ended, stopping, claimed }
        }
        other => other,
    }
}

impl Sealer {
    pub(super) async fn new_run(&self, new: NewRun) -> Result<NewRun> {
        if new.push_config.is_some() {
            return Err(no_push_configs());
        }
        let create_thread = async {
            Ok(match &new.create_thread {
                Some(metadata) => Some(self.metadata("thread", metadata).await?),
                None => None,
            })
        };
        let thread = try_join(
            self.metadata("thread", &new.thread_metadata),
            self.config(("thread", "config"), &new.thread_config),
        );
        let ((run, create_thread), (thread_metadata, thread_config)) =
            try_join(try_join(self.run(new.run), create_thread), thread).await?;
        Ok(NewRun { run, create_thread, thread_metadata, thread_config, ..new })
    }

    async fn ending(&self, ending: Ending) -> Result<Ending> {
        let error = match ending.error {
            // Why a run was stopped is said in words of the server.
            Some(RunError { error, message }) if !ending.unsealed && ending.cause.is_none() => {
                let message = self.text(("run", "error"), &message).await?;
                Some(RunError { error: self.name(("run", "error"), error).await?, message })
            }
            same => same,
        };
        let told = ending.values.as_ref();
        let left = ending.thread.as_ref().and_then(|thread| thread.values.as_ref());
        let same = told.map(|told| told.get()) == left.map(|left| left.get());
        let (told, thread) = (ending.values, ending.thread);
        let thread = match thread {
            // What says that handlers failed holds nothing of the data.
            Some(thread) if ending.unsealed => Some(thread),
            Some(thread) => Some(self.update(thread).await?),
            None => None,
        };
        let values = match (told, &thread) {
            (Some(_), Some(thread)) if same => thread.values.clone(),
            (Some(told), _) => Some(self.value(("thread", "values"), &told).await?),
            (None, _) => None,
        };
        Ok(Ending { error, values, thread, ..ending })
    }
}

/// The database makes what is told of a task, and would have to read it.
pub(super) fn no_push_configs() -> StorageError {
    StorageError::Unsupported(
        "push notifications of tasks are not sent by a server with `encryption.path`: follow the task, or ask for it"
            .into(),
    )
}

impl Opener {
    pub(super) async fn run(&self, mut run: Run) -> Result<Run> {
        // The context is what a request said of itself, and was not encrypted here.
        if let Some(Value::Object(configurable)) = run.kwargs.config.get_mut("configurable") {
            configurable.shift_remove(CONTEXT_KEY);
        }
        let error = async {
            Ok(match run.error {
                Some(error) => Some(self.json(error).await?),
                None => None,
            })
        };
        let documents = try_join(self.document(run.metadata), self.document(run.kwargs));
        let ((metadata, kwargs), error) = try_join(documents, error).await?;
        Ok(Run { metadata, kwargs, error, ..run })
    }

    async fn perhaps_run(&self, run: Option<Run>) -> Result<Option<Run>> {
        match run {
            Some(run) => self.run(run).await.map(Some),
            None => Ok(None),
        }
    }

    async fn claimed(&self, claimed: ClaimedRun) -> Result<ClaimedRun> {
        let head = async {
            Ok(match claimed.head {
                Some(head) => Some(self.tuple(head).await?),
                None => None,
            })
        };
        let opened = try_join(self.run(claimed.run), self.document(claimed.thread_metadata));
        let ((run, thread_metadata), head) = try_join(opened, head).await?;
        Ok(ClaimedRun { run, thread_metadata, head, ..claimed })
    }
}

/// The context that a run was made under.
fn context_of(run: &Run) -> SealingContext {
    let kept = run.kwargs.config.get("configurable").and_then(|configurable| configurable.get(CONTEXT_KEY));
    kept.and_then(Value::as_object).cloned().unwrap_or_default().into()
}
