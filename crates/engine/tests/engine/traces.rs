//! What runs leave: values, checkpoints, threads, and what their readers were told.

use std::time::Duration;
use threadyard_core::metadata_filter::MetadataFilter;

use serde_json::{Value, json};
use threadyard_core::{
    cancel::CancelAction,
    json::raw,
    runs::{MultitaskStrategy, RunStatus},
    runtime::{RunEnd, RunEndStatus, StopReason},
    stream::StreamMode,
    testkit::{run_end, sample_checkpoint},
    threads::{SavedState, ThreadOutcome, ThreadPatch, ThreadStatus, ThreadUpdate},
    time::Timestamp,
};
use threadyard_engine::{
    CancelRuns, CheckpointRef, Error, RunRequest, StartedRun, ThreadChoice, ThreadStream, ThreadStreamMode,
};

use crate::{SOON, Stage, json_of, read, request};

#[tokio::test]
async fn a_rolled_back_run_takes_its_checkpoints_along_and_leaves_those_before() {
    let stage = Stage::set().await;
    let first = stage.run().await;
    let thread = first.run.thread_id;
    let name = thread.to_string();
    let execution = stage.runtime.next_run().await;
    let put = |writer, checkpoint| stage.storage.put_checkpoint(writer, checkpoint);
    put(execution.job.writer(), sample_checkpoint(&name, "1", None)).await.unwrap();
    execution.succeed(&json!({ "x": 1 }));
    stage.result(first).await;

    let second = stage.run_on(thread, request()).await;
    let mut execution = stage.runtime.next_run().await;
    assert_eq!(execution.job.head.as_ref().unwrap().id, "1");
    assert!(!execution.job.resume, "the head is another run's");
    put(execution.job.writer(), sample_checkpoint(&name, "2", Some("1"))).await.unwrap();
    assert_eq!(stage.storage.checkpoint(&name, "", None).await.unwrap().unwrap().id, "2");
    let cancel = stage.engine.cancel_run(thread, second.run.run_id, CancelAction::Rollback, true);
    let (cancelled, _) = tokio::join!(cancel, execution.stopped());
    cancelled.unwrap();
    assert_eq!(stage.storage.checkpoint(&name, "", None).await.unwrap().unwrap().id, "1");
    let values = stage.engine.thread(thread).await.unwrap().values.known().unwrap();
    assert_eq!(values.get(), r#"{"x":1}"#);
}

#[tokio::test]
async fn what_a_run_did_before_it_was_stopped_is_kept() {
    let stage = Stage::set().await;
    let started = stage.run().await;
    let run = started.run.clone();
    let mut execution = stage.runtime.next_run().await;
    stage.engine.cancel_run(run.thread_id, run.run_id, CancelAction::Interrupt, false).await.unwrap();
    execution.told_to_stop().await;
    let values = Some(raw(&json!({ "x": 1 })));
    execution.end(RunEnd { values, has_next: true, ..run_end(RunEndStatus::Cancelled) });
    assert_eq!(stage.result(started).await, json!({ "x": 1 }));
    let thread = stage.engine.thread(run.thread_id).await.unwrap();
    // Nodes are left to run.
    assert_eq!((thread.status, thread.values.known().unwrap().get()), (ThreadStatus::Interrupted, r#"{"x":1}"#));
    let error = stage.engine.run(run.thread_id, run.run_id).await.unwrap().error.unwrap();
    assert_eq!(json_of(&error.get().to_owned().into())["error"], "UserInterrupt");
}

#[tokio::test]
async fn a_result_takes_the_place_of_the_values_for_who_waits() {
    let stage = Stage::set().await;
    let started = stage.run().await;
    let thread = started.run.thread_id;
    let (values, result) = (Some(raw(&json!({ "x": 2 }))), Some(raw(&json!({ "x": 2, "__interrupt__": [] }))));
    stage.runtime.next_run().await.end(RunEnd { values, result, ..run_end(RunEndStatus::Success) });
    assert_eq!(stage.result(started).await, json!({ "x": 2, "__interrupt__": [] }));
    assert_eq!(stage.engine.thread(thread).await.unwrap().values.known().unwrap().get(), r#"{"x":2}"#);
}

#[tokio::test]
async fn a_run_that_supersedes_others_ends_those_that_wait_as_well() {
    for (strategy, left) in
        [(MultitaskStrategy::Interrupt, Some(RunStatus::Interrupted)), (MultitaskStrategy::Rollback, None)]
    {
        let stage = Stage::set().await;
        let StartedRun { run: first, .. } = stage.run().await;
        let mut running = stage.runtime.next_run().await;
        let StartedRun { run: pending, stream } = stage.run_on(first.thread_id, request()).await;
        let last = stage.run_on(first.thread_id, RunRequest { multitask_strategy: strategy, ..request() }).await;
        // At once, while the first one still goes on.
        assert!(read(stream).await.is_empty());
        let status = stage.engine.run(first.thread_id, pending.run_id).await.ok().map(|run| run.status);
        assert_eq!(status, left, "{strategy:?}");
        assert_eq!(stage.status(&first).await, RunStatus::Running);
        running.stopped().await;
        let next = tokio::time::timeout(SOON, stage.runtime.next_run()).await.unwrap();
        assert_eq!(next.job.run_id(), last.run.run_id);
    }
}

#[tokio::test]
async fn a_temporary_thread_goes_however_its_run_ends() {
    for kind in ["raised", "paused", "interrupted", "rolled back"] {
        let stage = Stage::set().await;
        let StartedRun { run, stream } = stage.engine.create_run(request(), ThreadChoice::New(true)).await.unwrap();
        let mut execution = stage.runtime.next_run().await;
        let cancel = |action| stage.engine.cancel_run(run.thread_id, run.run_id, action, true);
        match kind {
            "raised" => execution.raise("ValueError", "negative"),
            "paused" => execution.pause(&json!({})),
            "interrupted" => drop(tokio::join!(cancel(CancelAction::Interrupt), execution.stopped())),
            _ => drop(tokio::join!(cancel(CancelAction::Rollback), execution.stopped())),
        }
        let raised = read(stream).await.iter().any(|(name, _)| name == "error");
        assert_eq!(raised, kind == "raised");
        assert!(matches!(stage.engine.thread(run.thread_id).await.err(), Some(Error::NotFound("thread"))), "{kind}");
        assert!(stage.storage.run_by_id(run.run_id).await.unwrap().is_none(), "{kind}");
    }
}

#[tokio::test]
async fn who_comes_back_to_a_resumable_stream_hears_what_followed() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let resumable = RunRequest { stream_resumable: true, ..request() };
    let StartedRun { run, stream } = stage.run_on(thread, resumable).await;
    assert!(stream.with_ids);
    let execution = stage.runtime.next_run().await;
    for x in 1..=2 {
        execution.say("values", &json!({ "x": x }));
    }
    execution.succeed(&json!({ "x": 2 }));
    assert_eq!(read(stream).await.len(), 3);
    let again = async |last: &str| {
        read(stage.engine.join_stream(thread, run.run_id, Some(last), Vec::new()).await.unwrap()).await
    };
    // The metadata are the first event, at the time that the clock of the stage stands at.
    let behind = |seq| format!("{}-{seq}", run.created_at.as_millis());
    assert_eq!(again("0-0").await.len(), 3);
    assert_eq!(again(&behind(2)).await, [("values".to_owned(), json!({ "x": 2 }))]);
    assert!(again(&behind(3)).await.is_empty());
}

#[tokio::test]
async fn who_joins_late_hears_what_comes_from_then_on() {
    let stage = Stage::set().await;
    let StartedRun { run, mut stream } = stage.run().await;
    let execution = stage.runtime.next_run().await;
    execution.say("values", &json!({ "x": 1 }));
    let mut heard = 0;
    while heard < 2 {
        heard += tokio::time::timeout(SOON, stream.next()).await.unwrap().unwrap().1.len();
    }
    let late = stage.engine.join_stream(run.thread_id, run.run_id, None, vec![StreamMode::Values]).await.unwrap();
    assert!(late.wants("values") && !late.wants("updates"));
    execution.say("values", &json!({ "x": 2 }));
    execution.succeed(&json!({ "x": 2 }));
    assert_eq!(read(late).await, [("values".to_owned(), json!({ "x": 2 }))]);
}

#[tokio::test]
async fn several_runs_are_stopped_at_once() {
    let stage = Stage::set().await;
    let first = stage.run().await.run;
    let mut running = stage.runtime.next_run().await;
    let pending = stage.run_on(first.thread_id, request()).await.run;
    let both = CancelRuns::OfThread(first.thread_id, vec![first.run_id, pending.run_id]);
    stage.engine.cancel_runs(both.clone(), CancelAction::Interrupt).await.unwrap();
    assert_eq!(running.stopped().await, StopReason::Interrupt);
    for run in [&first, &pending] {
        stage.until(run.thread_id, run.run_id, RunStatus::Interrupted).await;
    }
    for none in [both, CancelRuns::WithStatus(None)] {
        let refused = stage.engine.cancel_runs(none, CancelAction::Interrupt).await;
        assert!(matches!(refused.err(), Some(Error::NotFound(_))));
    }
}

#[tokio::test]
async fn runs_are_told_the_config_that_names_them() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let posing = json!({ "colour": "red", "langgraph_auth_user": { "identity": "admin" } });
    let config = json!({ "tags": ["a"], "configurable": posing });
    let Value::Object(config) = config else { unreachable!("it is an object") };
    let asked = RunRequest { config, after: Duration::ZERO, ..request() };
    let run = stage.run_on(thread, asked).await.run;
    let job = stage.runtime.next_run().await.job;
    let configurable = &job.config["configurable"];
    assert_eq!(configurable["colour"], "red");
    assert_eq!(configurable["thread_id"], thread.to_string());
    assert_eq!(configurable["run_id"], run.run_id.to_string());
    // Nobody had to say who they are, and nobody can pose as somebody.
    assert_eq!(
        (&configurable["langgraph_auth_user"], &configurable["langgraph_auth_user_id"]),
        (&json!(null), &json!(""))
    );
    assert_eq!(job.config["tags"], json!(["a"]));
    assert_eq!((job.thread_id, job.graph_id.as_str()), (thread, "echo"));
}

#[tokio::test]
async fn who_follows_a_thread_hears_of_all_its_runs() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let mut all = stage.engine.follow_thread(thread, vec![ThreadStreamMode::RunModes], None).await.unwrap();
    let mut lifecycle = stage.engine.follow_thread(thread, vec![ThreadStreamMode::Lifecycle], None).await.unwrap();
    for n in 1..=2 {
        let started = stage.run_on(thread, request()).await;
        let run = stage.runtime.next_run().await;
        run.say("values", &json!(n));
        run.succeed(&json!({}));
        let run_id = started.run.run_id;
        stage.result(started).await;
        let begun = ("metadata".to_owned(), json!({ "run_id": run_id, "attempt": 1 }));
        let done = ("metadata".to_owned(), json!({ "run_id": run_id, "status": "run_done" }));
        assert_eq!(hear(&mut all, 3).await, [begun.clone(), ("values".to_owned(), json!(n)), done.clone()]);
        assert_eq!(hear(&mut lifecycle, 2).await, [begun, done]);
    }
}

#[tokio::test]
async fn who_follows_a_thread_hears_of_runs_that_were_waiting_and_of_none_too_late() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    stage.run_on(thread, RunRequest { after: Duration::from_hours(1), ..request() }).await;
    let waiting = stage.run_on(thread, RunRequest { after: Duration::from_mins(1), ..request() }).await;
    let mut all = stage.engine.follow_thread(thread, vec![ThreadStreamMode::Lifecycle], None).await.unwrap();
    let sooner = stage.run_on(thread, request()).await;
    for started in [sooner, waiting] {
        let run = stage.runtime.next_run().await;
        run.succeed(&json!({}));
        let run_id = started.run.run_id;
        stage.result(started).await;
        let begun = ("metadata".to_owned(), json!({ "run_id": run_id, "attempt": 1 }));
        let done = ("metadata".to_owned(), json!({ "run_id": run_id, "status": "run_done" }));
        assert_eq!(hear(&mut all, 2).await, [begun, done]);
        stage.advance(Duration::from_mins(1));
    }
}

#[tokio::test]
async fn who_comes_in_the_middle_of_a_run_hears_that_it_is_done() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let started = stage.run_on(thread, request()).await;
    let run = stage.runtime.next_run().await;
    let mut following = stage.engine.follow_thread(thread, vec![ThreadStreamMode::RunModes], None).await.unwrap();
    let run_id = started.run.run_id;
    run.succeed(&json!({}));
    stage.result(started).await;
    let done = ("metadata".to_owned(), json!({ "run_id": run_id, "status": "run_done" }));
    assert_eq!(hear(&mut following, 1).await, [done]);
}

#[tokio::test]
async fn a_temporary_thread_stays_for_another_run() {
    let stage = Stage::set().await;
    let first = stage.engine.create_run(request(), ThreadChoice::New(true)).await.unwrap();
    let thread = first.run.thread_id;
    let running = stage.runtime.next_run().await;
    let second = stage.run_on(thread, request()).await;
    running.succeed(&json!({ "x": 1 }));
    stage.result(first).await;
    let running = tokio::time::timeout(SOON, stage.runtime.next_run()).await.unwrap();
    running.succeed(&json!({ "x": 2 }));
    assert_eq!(stage.result(second).await, json!({ "x": 2 }));
    assert!(stage.engine.thread(thread).await.is_ok());
}

/// The next events of a followed thread, whose ids have to grow.
async fn hear(stream: &mut ThreadStream, count: usize) -> Vec<(String, Value)> {
    let (mut heard, mut last) = (Vec::new(), None);
    while heard.len() < count {
        let (id, events) = tokio::time::timeout(SOON, stream.next()).await.unwrap();
        assert!(last.replace(id).is_none_or(|before| before < id));
        heard.extend(events.into_iter().map(|event| (event.name.to_string(), json_of(&event.data))));
    }
    heard
}

#[tokio::test]
async fn a_state_is_served_from_storage_when_its_graph_can_not_be_asked() {
    let stage = Stage::set().await;
    let saved = json!({ "values": { "x": 1 }, "next": [] });
    for (graph, served) in [("broken", true), ("gone", true), ("echo", false)] {
        let thread = stage.thread().await;
        let metadata = [("graph_id".to_owned(), graph.into())].into_iter().collect();
        stage
            .storage
            .patch_thread(thread, ThreadPatch { within: MetadataFilter::default(), metadata, ttl: None }, Timestamp(0))
            .await
            .unwrap();
        let update = ThreadUpdate {
            status: ThreadStatus::Idle,
            values: None,
            outcome: ThreadOutcome { interrupts: raw(&json!({})), error: None },
            state: Some(SavedState { state: raw(&saved), revision: "older".into() }),
        };
        stage.storage.update_thread(thread, MetadataFilter::default(), update, Timestamp(0)).await.unwrap();
        let shown = stage.engine.thread_state(thread, &CheckpointRef::default(), false).await.unwrap();
        // The scripted runtime answers questions with the question.
        assert_eq!(shown.get() == raw(&saved).get(), served, "{graph}: {shown}");
    }
}
