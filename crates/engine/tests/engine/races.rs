//! What happens at the worst moment: requests, losses and ends that cross each other.

use std::time::Duration;
use threadyard_core::metadata_filter::MetadataFilter;

use serde_json::json;
use threadyard_core::{
    bus::Topic,
    cancel::{CancelAction, CancelCause, CancelRequest, CancelRun},
    json::raw,
    runs::{ExpireLeases, RunStatus},
    runtime::{GraphError, RunEnd, RunEndStatus, RuntimeError, StopReason},
    testkit::{ScriptedRun, run_end},
    threads::ThreadStatus,
};
use threadyard_engine::{Error, StartedRun};

use crate::{SOON, Stage, read};

/// The next run that is executed, which has to come soon.
async fn next(stage: &Stage) -> ScriptedRun {
    tokio::time::timeout(SOON, stage.runtime.next_run()).await.expect("no run was started")
}

/// What a run is told that has to stop soon.
async fn told(run: &mut ScriptedRun) -> StopReason {
    tokio::time::timeout(SOON, run.told_to_stop()).await.expect("the run was not told to stop")
}

fn cancel(action: CancelAction) -> CancelRequest {
    CancelRequest { action, reason: "the test wants it".into(), cause: CancelCause::User }
}

#[tokio::test]
async fn a_request_that_nobody_signalled_is_found_when_the_run_begins() {
    for (action, reason) in
        [(CancelAction::Interrupt, StopReason::Interrupt), (CancelAction::Rollback, StopReason::Rollback)]
    {
        let stage = Stage::set().await;
        let mut gate = stage.runtime.gate();
        let StartedRun { run, stream } = stage.run().await;
        gate.reached().await;
        // Straight to storage, so that the row is all that knows.
        stage
            .storage
            .cancel_run(CancelRun {
                thread_id: run.thread_id,
                run_id: run.run_id,
                within: MetadataFilter::default(),
                request: cancel(action),
                now: run.created_at,
            })
            .await
            .unwrap();
        drop(gate);
        let mut execution = next(&stage).await;
        assert_eq!(told(&mut execution).await, reason);
        execution.end(run_end(RunEndStatus::Cancelled));
        read(stream).await;
        let left = stage.engine.run(run.thread_id, run.run_id).await.ok().map(|run| run.status);
        assert_eq!(left, (action == CancelAction::Interrupt).then_some(RunStatus::Interrupted));
    }
}

#[tokio::test]
async fn a_request_while_the_runtime_makes_room_stops_the_run_once_it_begins() {
    let stage = Stage::set().await;
    let mut gate = stage.runtime.gate();
    let StartedRun { run, stream } = stage.run().await;
    gate.reached().await;
    stage.engine.cancel_run(run.thread_id, run.run_id, CancelAction::Interrupt, false).await.unwrap();
    drop(gate);
    let mut execution = next(&stage).await;
    assert_eq!(execution.stopped().await, StopReason::Interrupt);
    read(stream).await;
    assert_eq!(stage.status(&run).await, RunStatus::Interrupted);
    let error = stage.engine.run(run.thread_id, run.run_id).await.unwrap().error.unwrap();
    assert!(error.get().contains("UserInterrupt"), "{error}");
}

#[tokio::test]
async fn a_request_outlives_the_worker_that_should_have_obeyed() {
    let stage = Stage::set().await;
    let StartedRun { run, stream } = stage.run().await;
    let mut first = next(&stage).await;
    stage.engine.cancel_run(run.thread_id, run.run_id, CancelAction::Interrupt, false).await.unwrap();
    assert_eq!(told(&mut first).await, StopReason::Interrupt);
    first.lose();
    let mut second = next(&stage).await;
    assert_eq!(told(&mut second).await, StopReason::Interrupt);
    second.end(run_end(RunEndStatus::Cancelled));
    read(stream).await;
    assert_eq!(stage.status(&run).await, RunStatus::Interrupted);
}

#[tokio::test]
async fn the_first_request_counts() {
    let stage = Stage::set().await;
    let StartedRun { run, stream } = stage.run().await;
    let mut execution = next(&stage).await;
    for action in [CancelAction::Interrupt, CancelAction::Rollback] {
        stage.engine.cancel_run(run.thread_id, run.run_id, action, false).await.unwrap();
    }
    assert_eq!(told(&mut execution).await, StopReason::Interrupt);
    // So much to hear that the second request is heard before the end.
    for x in 0..10 {
        execution.say("values", &json!({ "x": x }));
    }
    execution.end(RunEnd { values: Some(raw(&json!({ "x": 9 }))), ..run_end(RunEndStatus::Cancelled) });
    read(stream).await;
    assert_eq!(stage.status(&run).await, RunStatus::Interrupted, "a rolled back run would be gone");
    let values = stage.engine.thread(run.thread_id).await.unwrap().values.known();
    assert_eq!(values.unwrap().get(), r#"{"x":9}"#, "its work is kept");
}

#[tokio::test]
async fn a_run_that_succeeds_although_it_is_to_stop_is_kept_unless_it_is_to_be_undone() {
    for (action, left) in [(CancelAction::Interrupt, Some(RunStatus::Success)), (CancelAction::Rollback, None)] {
        let stage = Stage::set().await;
        let StartedRun { run, stream } = stage.run().await;
        let mut execution = next(&stage).await;
        stage.engine.cancel_run(run.thread_id, run.run_id, action, false).await.unwrap();
        told(&mut execution).await;
        execution.succeed(&json!({ "x": 2 }));
        read(stream).await;
        let status = stage.engine.run(run.thread_id, run.run_id).await.ok().map(|run| run.status);
        assert_eq!(status, left);
        let values = stage.engine.thread(run.thread_id).await.unwrap().values.known();
        assert_eq!(values.map(|values| values.get().to_owned()), left.map(|_| r#"{"x":2}"#.to_owned()));
    }
}

#[tokio::test]
async fn a_graph_that_broke_since_its_run_was_made_ends_it_at_the_first_attempt() {
    let stage = Stage::set().await;
    let mut gate = stage.runtime.gate();
    let started = stage.run().await;
    let run = started.run.clone();
    assert_eq!(gate.reached().await.attempt, 1);
    let error = GraphError { error: "SyntaxError".into(), message: "broken by an edit".into(), traceback: None };
    gate.refuse(RuntimeError::BrokenGraph { graph: "echo".into(), error });
    let raised = json!({ "error": "SyntaxError", "message": "broken by an edit" });
    assert_eq!(stage.result(started).await, json!({ "__error__": raised }));
    assert_eq!(stage.status(&run).await, RunStatus::Error);
    assert_eq!(stage.thread_status(run.thread_id).await, ThreadStatus::Error);
}

#[tokio::test]
async fn a_run_that_found_no_worker_is_tried_again_however_often() {
    let stage = Stage::set().await;
    // As often as attempts count.
    for _ in 0..3 {
        stage.runtime.gate().refuse(RuntimeError::Unavailable("none could be started".into()));
    }
    let started = stage.run().await;
    let fourth = next(&stage).await;
    assert_eq!(fourth.job.attempt, 4);
    fourth.succeed(&json!({ "x": 2 }));
    assert_eq!(stage.result(started).await, json!({ "x": 2 }));
}

/// Two attempts of one run in one server: the lease of the first ended, as after a long sleep of the machine.
async fn overtaken(stage: &Stage) -> (StartedRun, ScriptedRun, ScriptedRun) {
    let started = stage.run().await;
    let first = next(stage).await;
    let now = started.run.created_at + Duration::from_hours(1);
    let expired = stage.storage.expire_leases(ExpireLeases { now, max_attempts: 3 }).await.unwrap();
    assert_eq!(expired.requeued, [started.run.run_id]);
    stage.advance(Duration::ZERO);
    let second = next(stage).await;
    assert_eq!((second.job.run_id(), second.job.attempt), (started.run.run_id, 2));
    (started, first, second)
}

/// Ends an attempt that was overtaken, and waits until the engine is done with it.
async fn end_late(stage: &Stage, first: &ScriptedRun) {
    // The last thing that happens to an attempt is that its free slot is told.
    let free = stage.bus.woken(Topic::Runs);
    first.succeed(&json!({ "x": "late" }));
    tokio::time::timeout(SOON, free).await.expect("the engine holds on to the first attempt");
}

#[tokio::test]
async fn the_late_end_of_an_attempt_is_not_the_end_of_the_run() {
    let stage = Stage::set().await;
    let (started, first, second) = overtaken(&stage).await;
    let run = started.run.clone();
    end_late(&stage, &first).await;
    assert_eq!(stage.status(&run).await, RunStatus::Running);
    second.say("values", &json!({ "x": 2 }));
    second.succeed(&json!({ "x": 2 }));
    let heard: Vec<_> =
        read(started.stream).await.into_iter().map(|(name, data)| (name, data["attempt"].clone())).collect();
    let metadata = |attempt| ("metadata".to_owned(), json!(attempt));
    assert_eq!(heard, [metadata(1), metadata(2), ("values".to_owned(), json!(null))]);
    stage.until(run.thread_id, run.run_id, RunStatus::Success).await;
    let values = stage.engine.thread(run.thread_id).await.unwrap().values.known().unwrap();
    assert_eq!(values.get(), r#"{"x":2}"#);
}

#[tokio::test]
async fn the_late_end_of_an_attempt_does_not_hide_the_next_one() {
    let stage = Stage::set().await;
    let (started, first, mut second) = overtaken(&stage).await;
    end_late(&stage, &first).await;
    let (thread, run) = (started.run.thread_id, started.run.run_id);
    stage.engine.cancel_run(thread, run, CancelAction::Interrupt, false).await.unwrap();
    assert_eq!(told(&mut second).await, StopReason::Interrupt);
    second.end(RunEnd { has_next: true, ..run_end(RunEndStatus::Cancelled) });
    stage.until(thread, run, RunStatus::Interrupted).await;
}

#[tokio::test]
async fn a_deleted_run_is_gone_at_once_and_its_late_end_counts_for_nothing() {
    let stage = Stage::set().await;
    let StartedRun { run, stream } = stage.run().await;
    let mut execution = next(&stage).await;
    stage.engine.delete_run(run.thread_id, run.run_id).await.unwrap();
    assert!(matches!(stage.engine.run(run.thread_id, run.run_id).await.err(), Some(Error::NotFound("run"))));
    assert_eq!(stage.thread_status(run.thread_id).await, ThreadStatus::Idle);
    assert_eq!(told(&mut execution).await, StopReason::Rollback);
    execution.succeed(&json!({ "x": "late" }));
    assert_eq!(read(stream).await.len(), 1, "its stream closes behind the metadata");
    assert!(stage.engine.thread(run.thread_id).await.unwrap().values.known().is_none());
    assert!(stage.engine.delete_run(run.thread_id, run.run_id).await.is_err());
}
