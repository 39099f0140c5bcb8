//! Runs from their creation to their end.

use std::time::Duration;

use serde_json::json;
use threadyard_backends::LocalBusConfig;
use threadyard_core::{
    ids::ThreadId,
    json::Object,
    runs::{MultitaskStrategy, RunQuery, RunStatus},
    threads::ThreadStatus,
};
use threadyard_engine::{Error, RunRequest, ThreadChoice};
use uuid::Uuid;

use crate::{SOON, Stage, read, request};

const WINDOW: threadyard_core::page::Window = threadyard_core::page::Window { limit: 10, offset: 0 };

#[tokio::test]
async fn readers_hear_everything_in_order() {
    let stage = Stage::set().await;
    let started = stage.run().await;
    let run = stage.runtime.next_run().await;
    assert_eq!(run.job.input.as_ref().unwrap().get(), r#"{"x":1}"#);
    run.say("values", &json!({ "x": 1 }));
    run.say("values", &json!({ "x": 2 }));
    run.succeed(&json!({ "x": 2 }));
    let run_id = started.run.run_id;
    assert_eq!(
        read(started.stream).await,
        [
            ("metadata".into(), json!({ "run_id": run_id, "attempt": 1 })),
            ("values".into(), json!({ "x": 1 })),
            ("values".into(), json!({ "x": 2 })),
        ]
    );
    assert_eq!(stage.status(&started.run).await, RunStatus::Success);
    let thread = stage.engine.thread(started.run.thread_id).await.unwrap();
    assert_eq!((thread.status, thread.values.known().unwrap().get()), (ThreadStatus::Idle, r#"{"x":2}"#));
}

#[tokio::test]
async fn who_waits_and_who_joins_get_the_values() {
    let stage = Stage::set().await;
    let started = stage.run().await;
    let (thread, run) = (started.run.thread_id, started.run.run_id);
    stage.runtime.next_run().await.succeed(&json!({ "x": 2 }));
    assert_eq!(stage.result(started).await, json!({ "x": 2 }));
    let joined = stage.engine.join_run(thread, run).await.unwrap();
    assert_eq!(joined, r#"{"x":2}"#);
}

#[tokio::test]
async fn a_thread_keeps_the_language_that_it_was_begun_with() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let in_the_other = || RunRequest { assistant: "echo_ts".into(), ..request() };
    let choice = ThreadChoice::Existing(thread, false);
    let started = stage.run_on(thread, in_the_other()).await;
    stage.runtime.next_run().await.succeed(&json!({ "x": 1 }));
    assert_eq!(stage.result(started).await, json!({ "x": 1 }));
    let Err(Error::Conflict(why)) = stage.engine.create_run(request(), choice).await else { panic!("it was taken") };
    assert!(why.contains("begun by a graph in JavaScript, whose state a graph in Python can't read"), "{why}");
    let known = stage.engine.thread(thread).await.unwrap();
    assert_eq!((known.metadata["graph_id"].as_str(), known.status), (Some("echo_ts"), ThreadStatus::Idle));
    let again = stage.run_on(thread, in_the_other()).await;
    stage.runtime.next_run().await.succeed(&json!({ "x": 2 }));
    assert_eq!(stage.result(again).await, json!({ "x": 2 }));
}

#[tokio::test]
async fn what_a_graph_raises_is_the_outcome_of_the_run() {
    let stage = Stage::set().await;
    let started = stage.run().await;
    let run = started.run.clone();
    stage.runtime.next_run().await.raise("ValueError", "negative");
    let error = json!({ "error": "ValueError", "message": "negative" });
    let events = read(started.stream).await;
    assert_eq!(events.last().unwrap(), &("error".into(), error.clone()));
    let joined = stage.engine.join_run(run.thread_id, run.run_id).await.unwrap();
    assert_eq!(crate::json_of(&joined), json!({ "__error__": error }));
    assert_eq!(stage.status(&run).await, RunStatus::Error);
    assert_eq!(stage.thread_status(run.thread_id).await, ThreadStatus::Error);
}

#[tokio::test]
async fn a_pause_leaves_the_thread_interrupted_until_it_is_resumed() {
    let stage = Stage::set().await;
    let first = stage.run().await;
    let thread = first.run.thread_id;
    stage.runtime.next_run().await.pause(&json!({ "x": 1 }));
    stage.result(first).await;
    let waiting = stage.engine.thread(thread).await.unwrap();
    assert_eq!(waiting.status, ThreadStatus::Interrupted);
    assert!(waiting.outcome.unwrap().interrupts.get().contains("go on?"));

    let command = threadyard_core::json::raw(&json!({ "resume": true }));
    let resumed = stage.run_on(thread, RunRequest { command: Some(command), ..request() }).await;
    let run = stage.runtime.next_run().await;
    assert!(run.job.input.is_none(), "a command takes the place of the input");
    assert_eq!(run.job.command.as_ref().unwrap().get(), r#"{"resume":true}"#);
    run.succeed(&json!({ "x": 2 }));
    stage.result(resumed).await;
    assert_eq!(stage.thread_status(thread).await, ThreadStatus::Idle);
}

#[tokio::test]
async fn a_second_run_waits_for_the_first() {
    let stage = Stage::set().await;
    let first = stage.run().await;
    let thread = first.run.thread_id;
    let running = stage.runtime.next_run().await;
    let second = stage.run_on(thread, request()).await;
    assert_eq!(stage.thread_status(thread).await, ThreadStatus::Busy);
    assert_eq!(stage.status(&second.run).await, RunStatus::Pending);
    assert!(stage.runtime.started_run().await.is_none());
    running.succeed(&json!({}));
    let next = stage.runtime.next_run().await;
    assert_eq!(next.job.run_id(), second.run.run_id);
    next.succeed(&json!({}));
    stage.result(second).await;
}

#[tokio::test]
async fn a_second_run_may_be_rejected() {
    let stage = Stage::set().await;
    let first = stage.run().await;
    let thread = first.run.thread_id;
    let reject = RunRequest { multitask_strategy: MultitaskStrategy::Reject, ..request() };
    let refused = stage.engine.create_run(reject, ThreadChoice::Existing(thread, false)).await;
    assert!(matches!(refused.err(), Some(Error::Conflict(_))));
    let listed = stage.engine.list_runs(RunQuery { thread_id: thread, status: None }, WINDOW).await.unwrap();
    assert_eq!(listed.rows.len(), 1);
}

#[tokio::test]
async fn a_second_run_may_stop_the_first() {
    for (strategy, left) in
        [(MultitaskStrategy::Interrupt, Some(RunStatus::Interrupted)), (MultitaskStrategy::Rollback, None)]
    {
        let stage = Stage::set().await;
        let first = stage.run().await;
        let thread = first.run.thread_id;
        let mut running = stage.runtime.next_run().await;
        let second = stage.run_on(thread, RunRequest { multitask_strategy: strategy, ..request() }).await;
        running.stopped().await;
        let next = tokio::time::timeout(SOON, stage.runtime.next_run()).await.unwrap();
        assert_eq!(next.job.run_id(), second.run.run_id);
        let status = stage.engine.run(thread, first.run.run_id).await.ok().map(|run| run.status);
        assert_eq!(status, left, "{strategy:?}");
        next.succeed(&json!({}));
        stage.result(second).await;
    }
}

#[tokio::test]
async fn a_run_for_later_waits_for_its_time() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let later = stage.run_on(thread, RunRequest { after: Duration::from_millis(50), ..request() }).await;
    // Another run that is due shows that the queue was looked at.
    let due = stage.run().await;
    let running = stage.runtime.next_run().await;
    assert_eq!(running.job.run_id(), due.run.run_id);
    assert_eq!(stage.status(&later.run).await, RunStatus::Pending);
    stage.advance(Duration::from_millis(50));
    let run = tokio::time::timeout(SOON, stage.runtime.next_run()).await.unwrap();
    assert_eq!(run.job.run_id(), later.run.run_id);
}

#[tokio::test]
async fn a_temporary_thread_goes_with_its_run() {
    let stage = Stage::set().await;
    for (temporary, kept) in [(true, false), (false, true)] {
        let started = stage.engine.create_run(request(), ThreadChoice::New(temporary)).await.unwrap();
        let thread = started.run.thread_id;
        assert_eq!(started.run.metadata.get("graph_id"), None);
        stage.runtime.next_run().await.succeed(&json!({ "x": 2 }));
        assert_eq!(stage.result(started).await, json!({ "x": 2 }));
        assert_eq!(stage.engine.thread(thread).await.is_ok(), kept);
    }
}

#[tokio::test]
async fn what_can_not_be_executed_is_refused_before_it_is_stored() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let with = |assistant: &str, webhook: Option<&str>| RunRequest {
        assistant: assistant.into(),
        webhook: webhook.map(str::to_owned),
        ..request()
    };
    let existing = ThreadChoice::Existing(thread, false);
    let missing = ThreadChoice::Existing(ThreadId(Uuid::from_u64_pair(9, 9)), false);
    let create = |request, choice| stage.engine.create_run(request, choice);
    assert!(matches!(create(with("broken", None), existing).await.err(), Some(Error::BrokenGraph { .. })));
    assert!(matches!(create(with("nobody", None), existing).await.err(), Some(Error::Invalid(_) | Error::NotFound(_))));
    assert!(matches!(create(with("echo", Some("nowhere")), existing).await.err(), Some(Error::Invalid(_))));
    assert!(matches!(create(request(), missing).await.err(), Some(Error::NotFound(_))));
    let context = Object::from_iter([("a".to_owned(), json!(1))]);
    let both = RunRequest {
        context: context.clone(),
        config: Object::from_iter([("configurable".to_owned(), context.into())]),
        ..request()
    };
    assert!(matches!(create(both, existing).await.err(), Some(Error::Refused(_))));
    let listed = stage.engine.list_runs(RunQuery { thread_id: thread, status: None }, WINDOW).await.unwrap();
    assert!(listed.rows.is_empty());
}

#[tokio::test]
async fn a_reader_that_falls_too_far_behind_is_told_and_who_waits_is_not_disturbed() {
    let stage = Stage::set_with_bus(LocalBusConfig { max_bytes: 100 }).await;
    let slow = stage.run().await;
    let run = stage.runtime.next_run().await;
    let waiting = stage.engine.join_run(slow.run.thread_id, slow.run.run_id);
    let talk = async {
        for _ in 0..10 {
            run.say("custom", &"a long sentence, again and again");
            tokio::task::yield_now().await;
        }
        run.succeed(&json!({ "x": 2 }));
    };
    let (joined, ()) = tokio::join!(waiting, talk);
    assert_eq!(joined.unwrap(), r#"{"x":2}"#);
    let heard = read(slow.stream).await;
    assert_eq!((heard.len(), heard[0].0.as_str(), &heard[0].1["error"]), (1, "error", &json!("StreamLagged")));
}
