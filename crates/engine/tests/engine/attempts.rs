//! Attempts: what happens to a run when the process that executes it, or its server, dies.

use std::time::Duration;

use serde_json::{Map, json};
use threadyard_backends::LocalBusConfig;
use threadyard_core::{
    cancel::CancelAction,
    ids::{LeaseId, RunId, ThreadId},
    runs::{ClaimRuns, EndStatus, Ending, RunStatus},
    storage::StorageError,
    testkit::{ManualClock, new_run, sample_checkpoint},
    threads::ThreadStatus,
};
use uuid::Uuid;

use crate::{SOON, Stage, json_of, read, storage};

#[tokio::test]
async fn a_lost_worker_means_another_attempt_that_readers_see() {
    let stage = Stage::set().await;
    let started = stage.run().await;
    let first = stage.runtime.next_run().await;
    first.say("values", &json!({ "x": 1 }));
    let checkpoint = sample_checkpoint(&started.run.thread_id.to_string(), "1", None);
    stage.storage.put_checkpoint(first.job.writer(), checkpoint).await.unwrap();
    first.lose();

    let second = tokio::time::timeout(SOON, stage.runtime.next_run()).await.unwrap();
    assert_eq!((second.job.attempt, second.job.resume), (2, true));
    assert_eq!(second.job.head.as_ref().unwrap().id, "1");
    let late = sample_checkpoint(&started.run.thread_id.to_string(), "2", Some("1"));
    let refused = stage.storage.put_checkpoint(first.job.writer(), late).await;
    assert!(matches!(refused, Err(StorageError::LeaseLost)), "the first attempt writes no more");
    second.succeed(&json!({ "x": 2 }));
    let attempts: Vec<_> = read(started.stream).await.into_iter().filter(|(name, _)| name == "metadata").collect();
    assert_eq!(attempts.iter().map(|(_, data)| data["attempt"].clone()).collect::<Vec<_>>(), [json!(1), json!(2)]);
    assert_eq!(stage.status(&started.run).await, RunStatus::Success);
}

#[tokio::test]
async fn without_a_checkpoint_the_next_attempt_begins_anew() {
    let stage = Stage::set().await;
    let started = stage.run().await;
    stage.runtime.next_run().await.lose();
    let second = tokio::time::timeout(SOON, stage.runtime.next_run()).await.unwrap();
    assert_eq!((second.job.attempt, second.job.resume), (2, false));
    assert_eq!(second.job.input.as_ref().unwrap().get(), r#"{"x":1}"#);
    second.succeed(&json!({}));
    stage.result(started).await;
}

#[tokio::test]
async fn the_third_loss_is_the_last() {
    let stage = Stage::set().await;
    let started = stage.run().await;
    let run = started.run.clone();
    for attempt in 1..=3 {
        let execution = tokio::time::timeout(SOON, stage.runtime.next_run()).await.unwrap();
        assert_eq!(execution.job.attempt, attempt);
        execution.lose();
    }
    let result = stage.result(started).await;
    assert_eq!(result["__error__"]["error"], "MaxAttemptsExceeded");
    assert!(result["__error__"]["message"].as_str().unwrap().contains("signal 9"));
    assert_eq!(stage.status(&run).await, RunStatus::Error);
    assert_eq!(stage.thread_status(run.thread_id).await, ThreadStatus::Error);
}

#[tokio::test]
async fn a_run_whose_server_died_is_taken_over_when_its_lease_ends() {
    let (storage, folder) = storage();
    let now = threadyard_core::ambient::Clock::now(&*ManualClock::start());
    let (run_id, thread_id) = (RunId(Uuid::from_u64_pair(8, 1)), ThreadId(Uuid::from_u64_pair(8, 2)));
    let mut new = new_run(run_id, thread_id, now);
    new.create_thread = Some(Map::new());
    storage.create_run(new).await.unwrap();
    let until = now + Duration::from_secs(30);
    let lease_id = LeaseId(Uuid::from_u64_pair(8, 3));
    let dead = storage.claim_runs(ClaimRuns { lease_id, limit: 1, now, until }).await.unwrap().runs.remove(0);

    let stage = Stage::set_on(storage, folder, LocalBusConfig::default(), |_| {}).await;
    let other = stage.run().await;
    let neighbour = stage.runtime.next_run().await;
    assert_eq!(neighbour.job.run_id(), other.run.run_id, "the lease still holds");
    stage.advance(Duration::from_secs(31));
    let taken = tokio::time::timeout(SOON, stage.runtime.next_run()).await.unwrap();
    assert_eq!((taken.job.run_id(), taken.job.attempt), (run_id, 2));
    let at = now + Duration::from_secs(32);
    let late = Ending {
        status: EndStatus::Success,
        error: None,
        cause: None,
        values: None,
        thread: None,
        at,
        unsealed: false,
    };
    let refused = stage.storage.finish_run(dead.lease, late).await;
    assert!(matches!(refused, Err(StorageError::LeaseLost)), "the dead server's late end does not count");
    taken.succeed(&json!({ "x": 2 }));
    let joined = tokio::time::timeout(SOON, stage.engine.join_run(thread_id, run_id)).await.unwrap().unwrap();
    assert_eq!(json_of(&joined), json!({ "x": 2 }));
}

#[tokio::test]
async fn who_waits_hears_of_a_run_whose_servers_died_too_often() {
    let (storage, folder) = storage();
    let now = threadyard_core::ambient::Clock::now(&*ManualClock::start());
    let (run_id, thread_id) = (RunId(Uuid::from_u64_pair(8, 1)), ThreadId(Uuid::from_u64_pair(8, 2)));
    let mut new = new_run(run_id, thread_id, now);
    (new.create_thread, new.run.kwargs.temporary) = (Some(Map::new()), true);
    storage.create_run(new).await.unwrap();
    let lease_id = LeaseId(Uuid::from_u64_pair(8, 3));
    let until = now + Duration::from_secs(30);
    storage.claim_runs(ClaimRuns { lease_id, limit: 1, now, until }).await.unwrap();

    let stage = Stage::set_on(storage, folder, LocalBusConfig::default(), |settings| settings.max_attempts = 1).await;
    let join = async || stage.engine.join_stream(thread_id, run_id, None, Vec::new()).await.unwrap();
    let (mut stream, waiting) = (join().await, join().await);
    stage.advance(Duration::from_secs(31));
    let result = tokio::time::timeout(SOON, stage.engine.wait_for(thread_id, run_id, waiting)).await.unwrap();
    assert_eq!(json_of(&result.unwrap())["__error__"]["error"], "MaxAttemptsExceeded");
    let (_, said) = tokio::time::timeout(SOON, stream.next()).await.unwrap().unwrap();
    assert_eq!(&*said[0].name, "error");
}

#[tokio::test]
async fn a_run_that_waited_over_a_restart_can_be_joined_and_cancelled() {
    let (storage, folder) = storage();
    let now = threadyard_core::ambient::Clock::now(&*ManualClock::start());
    let thread_id = ThreadId(Uuid::from_u64_pair(8, 2));
    for (n, due) in [(1, 0), (2, 60)] {
        let mut new = new_run(RunId(Uuid::from_u64_pair(8, n)), thread_id, now);
        new.create_thread = Some(Map::new());
        new.due_at = now + Duration::from_secs(due);
        storage.create_run(new).await.unwrap();
    }
    let stage = Stage::set_on(storage, folder, LocalBusConfig::default(), |_| {}).await;
    let [first, second] = [1, 2].map(|n| RunId(Uuid::from_u64_pair(8, n)));
    let run = tokio::time::timeout(SOON, stage.runtime.next_run()).await.unwrap();
    let joins = async {
        let joined = stage.engine.join_run(thread_id, second).await.unwrap();
        assert_eq!(json_of(&joined), json!({ "x": 2 }));
    };
    let acts = async {
        run.succeed(&json!({ "x": 2 }));
        stage.until(thread_id, first, RunStatus::Success).await;
        stage.engine.cancel_run(thread_id, second, CancelAction::Interrupt, true).await.unwrap();
    };
    tokio::time::timeout(SOON, async { tokio::join!(joins, acts) }).await.unwrap();
}
