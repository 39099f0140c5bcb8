//! Resumable streams: who comes back hears every event once, whatever became of the server meanwhile.

use std::time::Duration;

use serde_json::{Value, json};
use threadyard_backends::LocalBusConfig;
use threadyard_core::{ids::ThreadId, runs::RunStatus, stream::EventId};
use threadyard_engine::{RunRequest, RunStream, StartedRun, ThreadChoice};

use crate::{SOON, Stage, json_of, request};

fn resumable() -> RunRequest {
    RunRequest { stream_resumable: true, ..request() }
}

/// The next events with their ids, which have to follow on each other.
async fn hear(stream: &mut RunStream, count: usize) -> Vec<(EventId, String, Value)> {
    let mut heard: Vec<(EventId, String, Value)> = Vec::new();
    while heard.len() < count {
        let Some((first, events)) = tokio::time::timeout(SOON, stream.next()).await.unwrap() else { break };
        let first = first.expect("events of a run have ids");
        for (event, place) in events.into_iter().zip(0..) {
            let id = EventId { seq: first.seq + place, ..first };
            assert!(heard.last().is_none_or(|(last, ..)| last.seq + 1 == id.seq && last.epoch_ms == id.epoch_ms));
            heard.push((id, event.name.to_string(), json_of(&event.data)));
        }
    }
    heard
}

async fn join(stage: &Stage, thread: ThreadId, started: &StartedRun, after: &str) -> RunStream {
    stage.engine.join_stream(thread, started.run.run_id, Some(after), Vec::new()).await.unwrap()
}

#[tokio::test]
async fn a_stream_is_read_on_under_the_next_server() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let mut started = stage.run_on(thread, resumable()).await;
    let mut first = stage.runtime.next_run().await;
    first.say("custom", &1);
    first.say("custom", &2);
    let before = hear(&mut started.stream, 3).await;
    tokio::join!(first.stopped(), stage.engine.stop(Duration::ZERO));
    let Stage { storage, _folder: folder, .. } = stage;

    let stage = Stage::set_on(storage, folder, LocalBusConfig::default(), |_| {}).await;
    let second = stage.runtime.next_run().await;
    let mut live = join(&stage, thread, &started, &before[1].0.to_string()).await;
    second.say("custom", &3);
    second.succeed(&json!({}));
    let after = hear(&mut live, 10).await;
    let names: Vec<_> = after.iter().map(|(id, name, data)| (id.seq, name.as_str(), data.clone())).collect();
    let begun = json!({ "run_id": started.run.run_id, "attempt": 2 });
    assert_eq!(names, [(3, "custom", json!(2)), (4, "metadata", begun), (5, "custom", json!(3))]);
    stage.until(thread, started.run.run_id, RunStatus::Success).await;
    let all = hear(&mut join(&stage, thread, &started, "-1").await, 10).await;
    assert_eq!(all.len(), 5);
    assert_eq!(all[..3], before);
    assert_eq!(all[2..], after);
}

#[tokio::test]
async fn a_reader_that_falls_behind_reads_on_from_what_is_kept() {
    let stage = Stage::set_with_bus(LocalBusConfig { max_bytes: 100 }).await;
    let thread = stage.thread().await;
    let mut slow = stage.run_on(thread, resumable()).await;
    let run = stage.runtime.next_run().await;
    for n in 0..50 {
        run.say("custom", &format!("a long sentence, again and again {n}"));
        tokio::task::yield_now().await;
    }
    run.succeed(&json!({}));
    stage.until(thread, slow.run.run_id, RunStatus::Success).await;
    let heard = hear(&mut slow.stream, 100).await;
    assert_eq!(heard.len(), 51);
    assert_eq!(heard[50].2, "a long sentence, again and again 49");
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_told_when_nothing_is_kept_any_more() {
    let stage = Stage::set_with_bus(LocalBusConfig { max_bytes: 100 }).await;
    let mut slow = stage.engine.create_run(resumable(), ThreadChoice::New(true)).await.unwrap();
    let run = stage.runtime.next_run().await;
    for _ in 0..50 {
        run.say("custom", &"a long sentence, again and again");
        tokio::task::yield_now().await;
    }
    run.succeed(&json!({}));
    while stage.storage.run_by_id(slow.run.run_id).await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    let (id, events) = slow.stream.next().await.unwrap();
    assert_eq!((id, json_of(&events[0].data)["error"].clone()), (None, json!("StreamLagged")));
    assert!(slow.stream.next().await.is_none());
}

#[tokio::test]
async fn a_failure_is_replayed_with_the_id_it_was_told_with() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let mut started = stage.run_on(thread, resumable()).await;
    stage.runtime.next_run().await.raise("ValueError", "negative");
    let told = hear(&mut started.stream, 10).await;
    assert_eq!((told.len(), told[1].1.as_str()), (2, "error"));
    assert_eq!(hear(&mut join(&stage, thread, &started, "0").await, 10).await, told);
    assert_eq!(hear(&mut join(&stage, thread, &started, &told[0].0.to_string()).await, 10).await, told[1..]);
    let strange = EventId { epoch_ms: 1, seq: 1 }.to_string();
    for nothing in [&told[1].0.to_string(), &strange, "soon"] {
        assert!(hear(&mut join(&stage, thread, &started, nothing).await, 10).await.is_empty(), "{nothing}");
    }
}

#[tokio::test]
async fn what_is_kept_is_swept_after_its_time() {
    let stage = Stage::set_with(|settings| settings.events_kept = Duration::from_secs(1)).await;
    let thread = stage.thread().await;
    let started = stage.run_on(thread, resumable()).await;
    stage.runtime.next_run().await.succeed(&json!({}));
    stage.until(thread, started.run.run_id, RunStatus::Success).await;
    assert_eq!(hear(&mut join(&stage, thread, &started, "0").await, 10).await.len(), 1);
    stage.advance(Duration::from_secs(2));
    let swept = async {
        while !hear(&mut join(&stage, thread, &started, "0").await, 10).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, swept).await.expect("the events are still there");
}
