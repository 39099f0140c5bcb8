//! One server stops or dies, and the next one goes on with the same storage.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use threadyard_backends::LocalBusConfig;
use threadyard_core::{runs::RunStatus, storage::Storage, testkit::ScriptedRun};
use threadyard_engine::StartedRun;

use crate::{SOON, Stage};

async fn next(stage: &Stage) -> ScriptedRun {
    tokio::time::timeout(SOON, stage.runtime.next_run()).await.expect("no run was started")
}

/// A server that finds this in storage.
async fn server(storage: Arc<dyn Storage>, folder: TempDir) -> Stage {
    Stage::set_on(storage, folder, LocalBusConfig::default(), |_| {}).await
}

#[tokio::test]
async fn a_run_that_was_handed_over_begins_anew_under_the_next_server() {
    let stage = Stage::set().await;
    let StartedRun { run, .. } = stage.run().await;
    let mut first = next(&stage).await;
    tokio::join!(first.stopped(), stage.engine.stop(Duration::ZERO));
    let Stage { storage, _folder: folder, .. } = stage;

    let stage = server(storage, folder).await;
    let second = next(&stage).await;
    assert_eq!((second.job.run_id(), second.job.attempt), (run.run_id, 2));
    second.succeed(&json!({ "x": 2 }));
    stage.until(run.thread_id, run.run_id, RunStatus::Success).await;
}

#[tokio::test]
async fn a_run_may_end_within_the_grace_of_a_stop() {
    let stage = Stage::set().await;
    let StartedRun { run, .. } = stage.run().await;
    let execution = next(&stage).await;
    let begun = std::time::Instant::now();
    tokio::join!(stage.engine.stop(SOON), async { execution.succeed(&json!({ "x": 2 })) });
    assert!(begun.elapsed() < SOON, "the stop waited although nothing was left");
    assert_eq!(stage.status(&run).await, RunStatus::Success);
}

#[tokio::test]
async fn a_worker_that_dies_during_a_stop_uses_up_no_attempt() {
    let stage = Stage::set().await;
    let StartedRun { run, .. } = stage.run().await;
    let execution = next(&stage).await;
    tokio::join!(stage.engine.stop(SOON), async { execution.lose() });
    let left = stage.engine.run(run.thread_id, run.run_id).await.unwrap();
    assert_eq!((left.status, left.counted_attempts()), (RunStatus::Pending, 0));
}
