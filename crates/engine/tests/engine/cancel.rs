//! Stopping runs: by request, by time, by deletion, and when the server stops.

use std::time::Duration;

use serde_json::json;
use threadyard_core::{
    cancel::CancelAction, runs::RunStatus, runtime::StopReason, storage::StorageError, testkit::sample_checkpoint,
    threads::ThreadStatus,
};
use threadyard_engine::{Error, RunRequest};

use crate::{SOON, Stage, read, request};

#[tokio::test]
async fn a_running_run_is_interrupted_and_keeps_its_work() {
    let stage = Stage::set().await;
    let started = stage.run().await;
    let (thread, run_id) = (started.run.thread_id, started.run.run_id);
    let mut run = stage.runtime.next_run().await;
    let (cancelled, reason) =
        tokio::join!(stage.engine.cancel_run(thread, run_id, CancelAction::Interrupt, true), run.stopped());
    cancelled.unwrap();
    assert_eq!(reason, StopReason::Interrupt);
    // `wait` returned, so this is settled.
    assert_eq!(stage.status(&started.run).await, RunStatus::Interrupted);
    assert_eq!(stage.thread_status(thread).await, ThreadStatus::Idle);
    let again = stage.engine.cancel_run(thread, run_id, CancelAction::Interrupt, true).await;
    assert!(matches!(again.err(), Some(Error::NotFound("run"))));
}

#[tokio::test]
async fn a_running_run_is_rolled_back_and_leaves_nothing() {
    let stage = Stage::set().await;
    let started = stage.run().await;
    let (thread, run_id) = (started.run.thread_id, started.run.run_id);
    let mut run = stage.runtime.next_run().await;
    let (cancelled, reason) =
        tokio::join!(stage.engine.cancel_run(thread, run_id, CancelAction::Rollback, true), run.stopped());
    cancelled.unwrap();
    assert_eq!(reason, StopReason::Rollback);
    assert!(matches!(stage.engine.run(thread, run_id).await.err(), Some(Error::NotFound("run"))));
    assert_eq!(stage.thread_status(thread).await, ThreadStatus::Idle);
}

#[tokio::test]
async fn a_pending_run_never_starts() {
    for action in [CancelAction::Interrupt, CancelAction::Rollback] {
        let stage = Stage::set().await;
        let thread = stage.thread().await;
        let later = RunRequest { after: Duration::from_mins(1), ..request() };
        let started = stage.run_on(thread, later).await;
        stage.engine.cancel_run(thread, started.run.run_id, action, true).await.unwrap();
        let left = stage.engine.run(thread, started.run.run_id).await.ok().map(|run| run.status);
        assert_eq!(left, (action == CancelAction::Interrupt).then_some(RunStatus::Interrupted));
        assert!(read(started.stream).await.is_empty(), "its stream closes");
        stage.advance(Duration::from_mins(2));
        let other = stage.run().await;
        assert_eq!(stage.runtime.next_run().await.job.run_id(), other.run.run_id);
    }
}

#[tokio::test]
async fn a_run_that_finishes_first_has_succeeded() {
    let stage = Stage::set().await;
    let started = stage.run().await;
    let run = stage.runtime.next_run().await;
    run.succeed(&json!({ "x": 2 }));
    let cancel = stage.engine.cancel_run(started.run.thread_id, started.run.run_id, CancelAction::Interrupt, true);
    match tokio::time::timeout(SOON, cancel).await.unwrap() {
        Ok(()) | Err(Error::NotFound("run")) => {}
        Err(other) => panic!("{other}"),
    }
    assert_eq!(stage.status(&started.run).await, RunStatus::Success);
}

#[tokio::test]
async fn a_run_that_takes_too_long_times_out() {
    let stage = Stage::set_with(|settings| settings.run_timeout = Duration::from_millis(20)).await;
    let started = stage.run().await;
    let mut run = stage.runtime.next_run().await;
    assert_eq!(run.stopped().await, StopReason::Timeout);
    stage.until(started.run.thread_id, started.run.run_id, RunStatus::Timeout).await;
    let error = stage.engine.run(started.run.thread_id, started.run.run_id).await.unwrap().error.unwrap();
    assert!(error.get().contains("TimeoutError"), "{error}");
    assert_eq!(stage.thread_status(started.run.thread_id).await, ThreadStatus::Error);
}

#[tokio::test]
async fn deleting_a_run_or_its_thread_stops_it() {
    let stage = Stage::set().await;
    let first = stage.run().await;
    let mut run = stage.runtime.next_run().await;
    stage.engine.delete_run(first.run.thread_id, first.run.run_id).await.unwrap();
    assert_eq!(run.stopped().await, StopReason::Rollback);

    let second = stage.run().await;
    let mut run = stage.runtime.next_run().await;
    stage.engine.delete_thread(second.run.thread_id).await.unwrap();
    assert_eq!(run.stopped().await, StopReason::Rollback);
    assert!(stage.engine.thread(second.run.thread_id).await.is_err());
    assert!(read(second.stream).await.len() <= 1, "its stream closes");
}

#[tokio::test]
async fn a_client_that_leaves_stops_its_run_and_only_once() {
    let stage = Stage::set().await;
    let started = stage.run().await;
    let (thread, run_id) = (started.run.thread_id, started.run.run_id);
    let mut run = stage.runtime.next_run().await;
    stage.engine.cancel_abandoned_run(thread, run_id).await.unwrap();
    assert_eq!(run.stopped().await, StopReason::Interrupt);
    stage.until(thread, run_id, RunStatus::Interrupted).await;
    stage.engine.cancel_abandoned_run(thread, run_id).await.unwrap();
}

#[tokio::test]
async fn a_stop_hands_running_runs_over_without_using_up_an_attempt() {
    let stage = Stage::set().await;
    let started = stage.run().await;
    let mut run = stage.runtime.next_run().await;
    let (reason, ()) = tokio::join!(run.stopped(), stage.engine.stop(Duration::ZERO));
    assert_eq!(reason, StopReason::Drain);
    let left = stage.engine.run(started.run.thread_id, started.run.run_id).await.unwrap();
    assert_eq!((left.status, left.counted_attempts()), (RunStatus::Pending, 0));
}

#[tokio::test]
async fn deleting_a_thread_closes_the_streams_of_its_pending_runs() {
    let stage = Stage::set().await;
    let first = stage.run().await;
    let thread = first.run.thread_id;
    let _running = stage.runtime.next_run().await;
    let pending = stage.run_on(thread, request()).await;
    stage.engine.delete_thread(thread).await.unwrap();
    assert!(read(pending.stream).await.is_empty());
}

#[tokio::test]
async fn a_run_that_does_not_stop_is_ended_and_writes_no_more() {
    let stage = Stage::set_with(|settings| settings.stop_within = Duration::from_millis(20)).await;
    let started = stage.run().await;
    let (thread, run_id) = (started.run.thread_id, started.run.run_id);
    let stubborn = stage.runtime.next_run().await;
    let cancel = stage.engine.cancel_run(thread, run_id, CancelAction::Interrupt, true);
    tokio::time::timeout(SOON, cancel).await.unwrap().unwrap();
    assert_eq!(stage.status(&started.run).await, RunStatus::Interrupted);
    let late = sample_checkpoint(&thread.to_string(), "1", None);
    let refused = stage.storage.put_checkpoint(stubborn.job.writer(), late).await;
    assert!(matches!(refused, Err(StorageError::LeaseLost)));
    let next = stage.run_on(thread, request()).await;
    let run = tokio::time::timeout(SOON, stage.runtime.next_run()).await.unwrap();
    assert_eq!(run.job.run_id(), next.run.run_id);
}
