//! The end of an attempt at a run: stored first, and told then.

use std::time::Duration;

use threadyard_core::{
    agent_tasks::is_of_a_task,
    bus::{Closing, Topic},
    runs::{Lease, Run},
    storage::StorageError,
};

use crate::{Engine, events::Voice, run_task::Outcome};

/// The time between two tries to write to a storage that is unavailable.
const PAUSE: Duration = Duration::from_secs(1);

/// Stores what became of the run, and says whether runs of its thread wait. While storage is unavailable, it is kept here: nobody else could go on with the run.
pub(crate) async fn record(engine: &Engine, lease: Lease, outcome: &Outcome) -> Result<bool, StorageError> {
    if let Outcome::HandOver { pause: true, .. } = outcome {
        paused(engine).await;
    }
    loop {
        let recorded = match outcome {
            Outcome::Ended(ending, _) => {
                engine.settings.faults.reach("finish.before_commit");
                engine.storage.finish_run(lease, (**ending).clone()).await
            }
            Outcome::HandOver { why, .. } => {
                engine.storage.requeue_run(lease, *why, engine.ambient.now()).await.map(|()| true)
            }
        };
        match recorded {
            Err(StorageError::Unavailable(why)) if !engine.stopping.is_cancelled() => {
                tracing::error!(run_id = %lease.run_id, why, "the end of the run could not be stored; trying again");
                paused(engine).await;
            }
            recorded => return recorded,
        }
    }
}

async fn paused(engine: &Engine) {
    tokio::select! {
        () = engine.stopping.cancelled() => {}
        () = tokio::time::sleep(PAUSE) => {}
    }
}

/// Commit, then announce: nothing here is needed for correctness.
pub(crate) async fn announce(engine: &Engine, run: &Run, outcome: Outcome, mut voice: Voice) {
    let (ending, result) = match outcome {
        Outcome::Ended(ending, result) => (ending, result),
        Outcome::HandOver { why, .. } => {
            engine.metrics.runs.given_back(why);
            return engine.bus.hand_over(run.run_id);
        }
    };
    engine.settings.faults.reach("finish.committed");
    let took = run.started_at.map(|start| ending.at.since(start));
    engine.metrics.runs.ended(ending.status, took);
    let millis = |took: Duration| u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let run_exec_ms = took.map(millis);
    let run_queue_ms = run.started_at.map(|start| millis(start.since(run.created_at)));
    tracing::info!(
        run_id = %run.run_id, thread_id = %run.thread_id, assistant_id = %run.assistant_id, graph_id = run.graph_id,
        run_attempt = run.attempt, status = ending.status.as_str(), run_queue_ms, run_exec_ms, "run ended"
    );
    if let Some(last) = ending.last_event(run) {
        voice.tell_last(run, last).await;
    }
    engine.bus.close(run.run_id, Closing { result });
    // Where there is no room now, the sender looks again by itself when there is.
    let has_room = |url| engine.outbox.has_room(url, engine.ambient.now());
    if run.kwargs.webhook.as_deref().is_some_and(has_room) || is_of_a_task(&run.metadata) {
        engine.wake(Topic::Deliveries);
    }
}
