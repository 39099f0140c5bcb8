//! Runs and deliveries whose words the project's own handlers can't decrypt, any more or for now.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use threadyard_backends::{LocalBusConfig, SealedStorage};
use threadyard_core::{
    access::User,
    cancel::CancelAction,
    deliveries::DeliveryQuery,
    event_streaming::{BLOCK, MARKER},
    ids::{LeaseId, RunId, ThreadId},
    json::Object,
    runs::{ClaimRuns, MultitaskStrategy, RunStatus, Runs},
    sealing::{Data, Piece, SealingContext, SealingHandlers, within},
    storage::{Result, StorageError},
    testkit::{ManualClock, new_run},
};
use threadyard_engine::{Settings, StartedRun};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    RunRequest, SOON, Stage,
    event_streaming::{all, data, hear, lifecycle, say, start},
    json_of, read, request, storage,
    webhooks::{Receiver, with_webhook},
};

/// What decrypting for the tenant `lost` comes to.
#[derive(Clone, Copy, Default)]
enum Mood {
    #[default]
    Well,
    Raise,
    Gone,
    Hang,
}

/// Handlers that turn bytes.
#[derive(Default)]
struct Handlers {
    mood: Mutex<Mood>,
    refused: Mutex<bool>,
}

impl Handlers {
    fn are(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        *self.refused.lock().unwrap() = false;
    }

    /// Waits until they were asked to decrypt for the tenant `lost` in this mood, and did not.
    async fn have_refused(&self) {
        let refused = async {
            while !*self.refused.lock().unwrap() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, refused).await.unwrap();
    }
}

fn turned(bytes: &[u8]) -> Data {
    Data::Blob(bytes.iter().map(|byte| byte ^ 0x5A).collect::<Vec<_>>().into())
}

#[async_trait]
impl SealingHandlers for Handlers {
    async fn encrypt(&self, piece: Piece) -> Result<Data> {
        Ok(match piece.data {
            Data::Blob(bytes) => turned(&bytes),
            // What is answered passes for changed, and is written as such.
            Data::Json(members) => Data::Json(members),
        })
    }

    async fn decrypt(&self, piece: Piece) -> Result<Data> {
        let mood = *self.mood.lock().unwrap();
        if piece.context.get("tenant").is_some_and(|tenant| tenant == "lost") && !matches!(mood, Mood::Well) {
            *self.refused.lock().unwrap() = true;
            match mood {
                Mood::Raise => return Err(StorageError::Sealing("decrypt raised KeyError".into())),
                Mood::Gone => return Err(StorageError::Unavailable("custom encryption: it is being replaced".into())),
                _ => std::future::pending().await,
            }
        }
        Ok(match piece.data {
            Data::Blob(bytes) => turned(&bytes),
            Data::Json(members) => Data::Json(members),
        })
    }

    async fn context(&self, _: Option<&User>, said: Object) -> Result<Object> {
        Ok(said)
    }
}

fn lost() -> SealingContext {
    SealingContext::new(Object::from_iter([("tenant".to_owned(), "lost".into())]))
}

async fn set(change: impl FnOnce(&mut Settings)) -> (Stage, Arc<Handlers>) {
    let ((inner, folder), handlers) = (storage(), Arc::new(Handlers::default()));
    let sealed = Arc::new(SealedStorage::new(inner, handlers.clone()));
    (Stage::set_on(sealed, folder, LocalBusConfig::default(), change).await, handlers)
}

/// A run of the tenant `lost` on a thread of its own.
async fn lost_run(stage: &Stage, request: RunRequest) -> StartedRun {
    let thread = stage.thread().await;
    within(lost(), stage.run_on(thread, request)).await
}

#[tokio::test]
async fn who_waits_for_a_run_that_cannot_be_decrypted_is_told() {
    let (stage, handlers) = set(|_| {}).await;
    let delayed = lost_run(&stage, RunRequest { after: Duration::from_secs(5), ..request() }).await;
    handlers.are(Mood::Raise);
    let made = lost_run(&stage, request()).await;
    stage.advance(Duration::from_secs(6));
    let runs = [made.run.clone(), delayed.run.clone()];
    for started in [made, delayed] {
        let error = stage.result(started).await["__error__"].clone();
        assert_eq!(error, json!({ "error": "EncryptionError", "message": "encryption.path: decrypt raised KeyError" }));
    }
    handlers.are(Mood::Well);
    for run in runs {
        assert_eq!(stage.status(&run).await, RunStatus::Error);
    }
}

#[tokio::test]
async fn a_run_whose_handlers_hang_holds_up_no_other_and_can_be_stopped() {
    let (stage, handlers) = set(|settings| settings.decrypt_within = 2 * SOON).await;
    let after = || RunRequest { after: Duration::from_secs(5), ..request() };
    let hangs = lost_run(&stage, after()).await;
    let thread = stage.thread().await;
    let other = stage.run_on(thread, after()).await;
    handlers.are(Mood::Hang);
    stage.advance(Duration::from_secs(6));
    let begun = timeout(SOON, stage.runtime.next_run()).await.expect("it waits for the other run's handlers");
    assert_eq!(begun.job.run_id(), other.run.run_id);
    begun.succeed(&json!({ "x": 2 }));
    assert_eq!(stage.result(other).await, json!({ "x": 2 }));

    let StartedRun { run, stream } = hangs;
    stage.engine.cancel_run(run.thread_id, run.run_id, CancelAction::Interrupt, false).await.unwrap();
    timeout(SOON, stream.closing()).await.unwrap();
    handlers.are(Mood::Well);
    assert_eq!(stage.status(&run).await, RunStatus::Interrupted);
}

#[tokio::test]
async fn who_waits_until_a_run_whose_handlers_hang_has_stopped_waits_for_no_handler() {
    let (stage, handlers) = set(|settings| settings.decrypt_within = 2 * SOON).await;
    for action in [CancelAction::Interrupt, CancelAction::Rollback] {
        for pending in [false, true] {
            handlers.are(Mood::Hang);
            let after = if pending { Duration::from_mins(1) } else { Duration::ZERO };
            let StartedRun { run, stream } = lost_run(&stage, RunRequest { after, ..request() }).await;
            if !pending {
                handlers.have_refused().await;
            }
            let stopped = stage.engine.cancel_run(run.thread_id, run.run_id, action, true);
            timeout(SOON, stopped).await.expect("it waits for handlers").unwrap();
            let left = stage.storage.unopened_run(run.run_id).await.unwrap().map(|run| run.status);
            assert_eq!(left, (action == CancelAction::Interrupt).then_some(RunStatus::Interrupted));
            timeout(SOON, stream.closing()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_run_that_takes_the_place_of_others_waits_for_no_handler_of_theirs() {
    let (stage, handlers) = set(|_| {}).await;
    let thread = stage.thread().await;
    let waiting = || RunRequest { after: Duration::from_mins(1), ..request() };
    let ordinary = within(lost(), stage.run_on(thread, waiting())).await;
    let streaming = RunRequest { event_streaming: true, stream_resumable: true, ..waiting() };
    let streaming = within(lost(), stage.run_on(thread, streaming)).await;
    handlers.are(Mood::Hang);
    let instead = RunRequest { multitask_strategy: MultitaskStrategy::Interrupt, ..request() };
    let begun = async {
        let started = stage.run_on(thread, instead).await;
        (started, stage.runtime.next_run().await)
    };
    let (started, begun) = timeout(SOON, begun).await.expect("it waits for handlers");
    assert_eq!(begun.job.run_id(), started.run.run_id);
    assert!(read(ordinary.stream).await.is_empty());
    let told = read(streaming.stream).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1["params"]["data"], lifecycle("interrupted"));
    begun.succeed(&json!({ "x": 2 }));
    assert_eq!(stage.result(started).await, json!({ "x": 2 }));
}

#[tokio::test]
async fn the_end_of_a_run_that_could_not_be_decrypted_is_told_once_and_behind_what_was_told() {
    let (stage, handlers) = set(|settings| settings.decrypt_within = 2 * SOON).await;
    let thread = stage.thread().await;
    let first = stage.engine.start_run(thread, start(MultitaskStrategy::Enqueue)).await.unwrap();
    timeout(SOON, stage.runtime.next_run()).await.unwrap().succeed(&json!({}));
    stage.until(thread, first, RunStatus::Success).await;
    for (block, mood, end) in [(1, Mood::Raise, "failed"), (2, Mood::Hang, "interrupted")] {
        let after = Duration::from_secs(5);
        let asked = RunRequest { event_streaming: true, stream_resumable: true, after, ..request() };
        let started = within(lost(), stage.run_on(thread, asked)).await;
        let id = started.run.run_id;
        let mut streams = vec![started.stream];
        streams.push(stage.engine.join_stream(thread, id, None, Vec::new()).await.unwrap());
        handlers.are(mood);
        stage.advance(2 * after);
        handlers.have_refused().await;
        if matches!(mood, Mood::Hang) {
            stage.engine.cancel_run(thread, id, CancelAction::Interrupt, false).await.unwrap();
        }
        for mut stream in streams {
            let mut told = Vec::new();
            while let Some((first, events)) = timeout(SOON, stream.next()).await.unwrap() {
                let ends = events.iter().map(|event| json_of(&event.data)["params"]["data"]["event"].clone());
                told.extend((first.unwrap().seq..).zip(ends));
            }
            assert_eq!(told, [(block * BLOCK + 1, json!(end))]);
        }
        handlers.are(Mood::Well);
    }
}

#[tokio::test]
async fn a_run_whose_handlers_always_hang_ends_and_is_told_of() {
    let brief = |settings: &mut Settings| {
        settings.decrypt_within = Duration::from_millis(20);
        settings.max_attempts = 2;
    };
    let (stage, handlers) = set(brief).await;
    handlers.are(Mood::Hang);
    let started = lost_run(&stage, RunRequest { webhook: Some("http://127.0.0.1:9/".into()), ..request() }).await;
    let run = started.run.clone();
    let error = stage.result(started).await["__error__"].clone();
    assert_eq!(error["error"], "EncryptionError");
    assert!(error["message"].as_str().unwrap().ends_with("none of its 2 attempts is left"), "{error}");
    let owed = DeliveryQuery { run_id: Some(run.run_id), ..DeliveryQuery::default() };
    assert_eq!(stage.storage.count_deliveries(owed).await.unwrap(), 1);
    handlers.are(Mood::Well);
    let ended = stage.engine.run(run.thread_id, run.run_id).await.unwrap();
    assert_eq!((ended.status, ended.counted_attempts()), (RunStatus::Error, 2));
}

#[tokio::test]
async fn a_run_waits_while_nobody_can_decrypt_it() {
    let (stage, handlers) = set(|settings| settings.max_attempts = 1).await;
    handlers.are(Mood::Gone);
    let started = lost_run(&stage, request()).await;
    handlers.have_refused().await;
    handlers.are(Mood::Well);
    let execution = timeout(SOON, stage.runtime.next_run()).await.unwrap();
    execution.succeed(&json!({ "x": 2 }));
    let run = started.run.clone();
    assert_eq!(stage.result(started).await, json!({ "x": 2 }));
    let ended = stage.engine.run(run.thread_id, run.run_id).await.unwrap();
    assert_eq!((ended.status, ended.counted_attempts()), (RunStatus::Success, 1));
    assert!(ended.attempt > 1, "it waited");
}

#[tokio::test]
async fn who_waits_for_another_run_is_told_though_handlers_hang() {
    let ((inner, folder), handlers) = (storage(), Arc::new(Handlers::default()));
    let sealed = Arc::new(SealedStorage::new(inner, handlers.clone()));
    let now = threadyard_core::ambient::Clock::now(&*ManualClock::start());
    let [first, second] = [1, 2].map(|n| (RunId(Uuid::from_u64_pair(8, n)), ThreadId(Uuid::from_u64_pair(9, n))));
    for ((run_id, thread_id), context) in [(first, lost()), (second, SealingContext::default())] {
        let mut new = new_run(run_id, thread_id, now);
        new.create_thread = Some(Map::new());
        new.run.kwargs.resumable = true;
        new.run.kwargs.config.insert("configurable".into(), json!({ MARKER: true, "word": "secret" }));
        within(context, sealed.create_run(new)).await.unwrap();
    }
    let (lease_id, until) = (LeaseId(Uuid::from_u64_pair(8, 3)), now + Duration::from_secs(30));
    sealed.claim_runs(ClaimRuns { lease_id, limit: 2, now, until }).await.unwrap();

    let stage = Stage::set_on(sealed, folder, LocalBusConfig::default(), |settings| settings.max_attempts = 1).await;
    let waiting = stage.engine.join_stream(second.1, second.0, None, Vec::new()).await.unwrap();
    handlers.are(Mood::Hang);
    // Their server died.
    stage.advance(Duration::from_secs(31));
    let told = timeout(SOON, stage.engine.wait_for(second.1, second.0, waiting)).await.unwrap().unwrap();
    assert_eq!(json_of(&told)["__error__"]["error"], "MaxAttemptsExceeded");
}

#[tokio::test]
async fn a_tape_goes_on_behind_what_cannot_be_decrypted() {
    let (stage, handlers) = set(|_| {}).await;
    let thread = stage.thread().await;
    for (n, context) in [(1, lost()), (2, SealingContext::default())] {
        let started = within(context, stage.engine.start_run(thread, start(MultitaskStrategy::Enqueue))).await.unwrap();
        let run = timeout(SOON, stage.runtime.next_run()).await.unwrap();
        say(&run, &json!({ "n": n }));
        run.succeed(&json!({}));
        stage.until(thread, started, RunStatus::Success).await;
    }
    let resumable = RunRequest { stream_resumable: true, ..request() };
    let ordinary = within(lost(), stage.run_on(thread, resumable)).await;
    let run = timeout(SOON, stage.runtime.next_run()).await.unwrap();
    run.say("values", &json!({ "n": 3 }));
    run.succeed(&json!({}));
    stage.result(ordinary).await;

    let read = async || stage.engine.read_tape(thread, all(), 0).await.unwrap();
    let whole = data(&hear(&mut read().await, 9).await);
    handlers.are(Mood::Raise);
    let rest = data(&hear(&mut read().await, 6).await);
    let each = |n: u32| [lifecycle("running"), json!({ "n": n }), lifecycle("completed")];
    assert_eq!(whole, [each(1), each(2), each(3)].concat());
    let expected: Vec<Value> =
        [&[lifecycle("completed")], &each(2)[..], &[lifecycle("running"), lifecycle("completed")]].concat();
    assert_eq!(rest, expected);
}

#[tokio::test]
async fn a_delivery_that_cannot_be_decrypted_is_tried_again_as_the_schedule_says() {
    let (stage, handlers) = set(|_| {}).await;
    let mut receiver = Receiver::start(&[]).await;
    let started = lost_run(&stage, with_webhook(&receiver)).await;
    let run = timeout(SOON, stage.runtime.next_run()).await.unwrap();
    handlers.are(Mood::Raise);
    run.succeed(&json!({ "said": "secret" }));
    let run_id = started.run.run_id;
    stage.result(started).await;
    let failure = async || {
        let query = DeliveryQuery { run_id: Some(run_id), ..DeliveryQuery::default() };
        let window = threadyard_core::page::Window { limit: 1, offset: 0 };
        stage.storage.search_deliveries(query, window).await.unwrap().rows.remove(0).last_failure
    };
    let failed = async {
        while failure().await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, failed).await.unwrap();
    assert_eq!(failure().await.as_deref(), Some("it can't be decrypted"));
    handlers.are(Mood::Well);
    stage.advance(Duration::from_secs(3));
    let (_, body) = receiver.next().await;
    assert_eq!(json_of(&body)["values"], json!({ "said": "secret" }));
}
