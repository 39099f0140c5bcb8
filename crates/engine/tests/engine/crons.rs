//! Crons begin runs, with a clock that the test moves.

use std::time::Duration;

use serde_json::{Value, json};
use threadyard_core::{
    crons::Cron,
    ids::ThreadId,
    json::{RawObject, fields, raw},
    page::Window,
    runs::{Run, RunQuery},
    testkit::ScriptedRun,
};
use threadyard_engine::Error;

use crate::{SOON, Stage};

fn payload(value: &Value) -> RawObject {
    fields(value)
}

async fn every_minute(stage: &Stage, thread: Option<ThreadId>, more: Value) -> Cron {
    let mut payload = payload(&json!({ "assistant_id": "echo", "schedule": "* * * * *", "input": { "x": 1 } }));
    payload.extend(fields(&more));
    stage.engine.create_cron(thread, payload).await.unwrap()
}

async fn next(stage: &Stage) -> ScriptedRun {
    tokio::time::timeout(SOON, stage.runtime.next_run()).await.expect("the cron began no run")
}

async fn runs_of(stage: &Stage, thread_id: ThreadId) -> Vec<Run> {
    let window = Window { limit: 100, offset: 0 };
    stage.engine.list_runs(RunQuery { thread_id, status: None }, window).await.unwrap().rows
}

#[tokio::test]
async fn a_cron_begins_a_run_at_each_moment() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let cron = every_minute(&stage, Some(thread), json!({ "metadata": { "m": 1 } })).await;
    for n in 1..=3 {
        stage.advance(Duration::from_mins(1));
        let run = next(&stage).await;
        assert_eq!(run.job.thread_id, thread);
        assert_eq!(run.job.input.as_ref().unwrap().get(), r#"{"x":1}"#);
        assert_eq!(run.job.config["configurable"]["cron_id"], cron.cron_id.to_string());
        run.succeed(&json!({ "x": n }));
        let runs = runs_of(&stage, thread).await;
        assert_eq!((runs.len(), &runs[0].metadata["m"]), (n, &json!(1)));
        stage.until(thread, runs[0].run_id, threadyard_core::runs::RunStatus::Success).await;
    }
}

#[tokio::test]
async fn a_cron_may_bring_a_context() {
    let stage = Stage::set().await;
    let cron = every_minute(&stage, None, json!({ "context": { "user": "a" }, "config": null })).await;
    stage.advance(Duration::from_mins(1));
    let run = next(&stage).await;
    assert_eq!(json!(run.job.context), json!({ "user": "a" }));
    assert_eq!(run.job.config["configurable"]["user"], "a");
    assert_eq!(run.job.config["configurable"]["cron_id"], cron.cron_id.to_string());
    run.succeed(&json!({}));
}

#[tokio::test]
async fn changes_at_the_same_time_all_stay() {
    let stage = Stage::set().await;
    let cron = every_minute(&stage, None, json!({})).await;
    let mut changes = tokio::task::JoinSet::new();
    for n in 0..20 {
        let (engine, patch) = (stage.engine.clone(), fields(&json!({ "metadata": { n.to_string(): n } })));
        changes.spawn(async move { engine.patch_cron(cron.cron_id, patch).await.unwrap() });
    }
    changes.join_all().await;
    assert_eq!(stage.engine.cron(cron.cron_id).await.unwrap().metadata.len(), 20);
}

#[tokio::test]
async fn moments_that_passed_unseen_are_made_up_for_once() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    every_minute(&stage, Some(thread), json!({})).await;
    stage.advance(Duration::from_hours(5));
    next(&stage).await.succeed(&json!({}));
    stage.advance(Duration::from_mins(1));
    next(&stage).await.succeed(&json!({}));
    assert_eq!(runs_of(&stage, thread).await.len(), 2);
}

#[tokio::test]
async fn a_cron_without_a_thread_makes_one_for_each_run() {
    let stage = Stage::set().await;
    for (choice, kept) in [("delete", false), ("keep", true)] {
        let cron = every_minute(&stage, None, json!({ "on_run_completed": choice })).await;
        stage.advance(Duration::from_mins(1));
        let run = next(&stage).await;
        let (thread, run_id) = (run.job.thread_id, run.job.run_id());
        run.succeed(&json!({}));
        let ended = stage.engine.join_run(thread, run_id);
        let _ = tokio::time::timeout(SOON, ended).await.unwrap();
        assert_eq!(stage.engine.thread(thread).await.is_ok(), kept);
        stage.engine.delete_cron(cron.cron_id).await.unwrap();
    }
}

#[tokio::test]
async fn a_cron_that_is_off_over_or_gone_begins_nothing() {
    let stage = Stage::set().await;
    let off = every_minute(&stage, None, json!({ "enabled": false })).await;
    every_minute(&stage, None, json!({ "end_time": "2020-01-01T00:00:00Z" })).await;
    let gone = every_minute(&stage, None, json!({})).await;
    stage.engine.delete_cron(gone.cron_id).await.unwrap();
    stage.advance(Duration::from_mins(2));
    // Another run shows that everything due was looked at.
    let thread = stage.thread().await;
    every_minute(&stage, Some(thread), json!({})).await;
    stage.advance(Duration::from_mins(1));
    let running = next(&stage).await;
    assert_eq!(running.job.thread_id, thread);
    assert!(stage.runtime.started_run().await.is_none());
    let on = stage.engine.patch_cron(off.cron_id, payload(&json!({ "enabled": true }))).await.unwrap();
    assert!(on.enabled);
    assert_eq!(next(&stage).await.job.config["configurable"]["cron_id"], off.cron_id.to_string());
}

#[tokio::test]
async fn a_patch_changes_what_it_names() {
    let stage = Stage::set().await;
    let cron = every_minute(&stage, None, json!({ "metadata": { "a": 1 }, "config": { "tags": ["t"] } })).await;
    let patch =
        json!({ "schedule": "0 12 1 6 *", "timezone": "Asia/Tokyo", "metadata": { "b": 2 }, "assistant_id": "other" });
    let changed = stage.engine.patch_cron(cron.cron_id, payload(&patch)).await.unwrap();
    assert_eq!(changed.assistant_id, cron.assistant_id);
    assert_eq!(json!(changed.metadata), json!({ "a": 1, "b": 2 }));
    assert_eq!(changed.payload["metadata"].get(), r#"{"b":2}"#);
    let config = json!({ "tags": ["t"], "configurable": { "cron_id": cron.cron_id } });
    assert_eq!(changed.payload["config"].get(), raw(&config).get());
    assert!(changed.next_run_date.unwrap().to_string().contains("-06-01T03:00:00"));
    let cleared = stage.engine.patch_cron(cron.cron_id, payload(&json!({ "end_time": null }))).await.unwrap();
    assert_eq!(cleared.end_time, None);
    let empty = stage.engine.patch_cron(cron.cron_id, RawObject::new()).await;
    assert!(matches!(empty.err(), Some(Error::Refused(_))));
}

#[tokio::test]
async fn a_cron_whose_runs_could_never_begin_is_refused() {
    let stage = Stage::set().await;
    for bad in [
        json!({ "schedule": "bogus" }),
        json!({ "timezone": "Mars/Base" }),
        json!({ "input": "x" }),
        json!({ "input": null }),
        json!({ "webhook": "nowhere" }),
        json!({ "stream_mode": "loud" }),
        json!({ "durability": "x" }),
        json!({ "end_time": "yesterday" }),
        json!({ "on_run_completed": "burn" }),
        json!({ "config": 1 }),
        json!({ "config": { "recursion_limit": "x" } }),
        json!({ "config": { "tags": "x" } }),
    ] {
        let mut payload = payload(&json!({ "assistant_id": "echo", "schedule": "* * * * *" }));
        payload.extend(fields(&bad));
        let refused = stage.engine.create_cron(None, payload).await;
        assert!(matches!(refused.as_ref().err(), Some(Error::Invalid(_))), "{bad}: {refused:?}");
    }
    let both = json!({ "context": { "a": 1 }, "config": { "configurable": { "b": 1 } } });
    let mut payload_of_both = payload(&json!({ "assistant_id": "echo", "schedule": "* * * * *" }));
    payload_of_both.extend(fields(&both));
    assert!(matches!(stage.engine.create_cron(None, payload_of_both).await.err(), Some(Error::Refused(_))));
    let unknown = payload(&json!({ "assistant_id": "nobody", "schedule": "* * * * *" }));
    assert!(matches!(stage.engine.create_cron(None, unknown).await.err(), Some(Error::NotFound("assistant"))));
}
