//! What the receiver of a webhook hears, with a clock that the test moves.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::{Map, json};
use threadyard_backends::LocalBusConfig;
use threadyard_core::{
    ambient::Clock,
    cancel::CancelAction,
    ids::{LeaseId, RunId, ThreadId},
    json::raw,
    runs::{ClaimRuns, EndStatus, Ending},
    testkit::{ManualClock, new_run},
    webhooks::ClaimDeliveries,
};
use threadyard_engine::{RunRequest, ThreadChoice};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::mpsc,
};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::{SOON, Stage, json_of, request};

type Heard = (HeaderMap, Bytes);

/// Answers with the statuses it is given, then with 200.
pub(crate) struct Receiver {
    url: String,
    heard: mpsc::UnboundedReceiver<Heard>,
    _tasks: TaskTracker,
}

#[derive(Clone)]
struct Answers {
    statuses: Arc<Mutex<VecDeque<u16>>>,
    tell: mpsc::UnboundedSender<Heard>,
}

impl Receiver {
    pub(crate) async fn start(statuses: &[u16]) -> Self {
        let (tell, heard) = mpsc::unbounded_channel();
        let answers = Answers { statuses: Arc::new(Mutex::new(statuses.iter().copied().collect())), tell };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(receive)).with_state(answers);
        let tasks = TaskTracker::new();
        tasks.spawn(async move { axum::serve(listener, router).await });
        Self { url, heard, _tasks: tasks }
    }

    pub(crate) async fn next(&mut self) -> Heard {
        tokio::time::timeout(SOON, self.heard.recv()).await.expect("no webhook came").unwrap()
    }

    /// Nothing came besides what was looked at.
    fn heard_all(&mut self) -> bool {
        self.heard.is_empty()
    }
}

async fn receive(State(answers): State<Answers>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let status = answers.statuses.lock().unwrap().pop_front().unwrap_or(200);
    let _ = answers.tell.send((headers, body));
    StatusCode::from_u16(status).unwrap()
}

pub(crate) fn with_webhook(receiver: &Receiver) -> RunRequest {
    RunRequest { webhook: Some(receiver.url.clone()), ..request() }
}

/// How long it is until the next delivery, once what came of the last one is recorded; none when all are done.
pub(crate) async fn next_wait(stage: &Stage) -> Option<Duration> {
    let now = stage.clock.now();
    let recorded = async {
        loop {
            // Takes nothing, and so only says when the next one is due.
            let look = ClaimDeliveries {
                lease_id: LeaseId(Uuid::nil()),
                limit: 0,
                bytes: 0,
                retries: 0,
                per_origin: 0,
                rooms: BTreeMap::new(),
                from: String::new(),
                now,
                until: now,
            };
            let due = stage.storage.claim_deliveries(look).await.unwrap().next_due.map(|due| due.since(now));
            // One that was not taken yet is due at once, and one on its way when its lease ends.
            if !due.is_some_and(|wait| wait.is_zero() || wait == Duration::from_secs(45)) {
                return due;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, recorded).await.expect("a delivery was not dealt with")
}

/// Lets a run with this webhook succeed.
async fn finish(stage: &Stage, receiver: &Receiver) {
    let thread = stage.thread().await;
    finish_on(stage, receiver, thread).await;
}

async fn finish_on(stage: &Stage, receiver: &Receiver, thread: ThreadId) {
    let started = stage.run_on(thread, with_webhook(receiver)).await;
    stage.runtime.next_run().await.succeed(&json!({ "x": 2 }));
    stage.result(started).await;
}

#[tokio::test]
async fn the_end_of_a_run_is_told_once() {
    let (stage, mut receiver) = (Stage::set().await, Receiver::start(&[]).await);
    finish(&stage, &receiver).await;
    let (headers, body) = receiver.next().await;
    assert_eq!(headers["content-type"], "application/json");
    let run = json_of(&body);
    assert_eq!(
        (&run["status"], &run["type"], &run["values"]),
        (&json!("success"), &json!("run.success"), &json!({ "x": 2 }))
    );
    assert_eq!(next_wait(&stage).await, None);
    assert!(receiver.heard_all());
}

#[tokio::test]
async fn a_refused_webhook_comes_again_with_the_same_id_and_body() {
    let (stage, mut receiver) = (Stage::set().await, Receiver::start(&[500, 302, 404]).await);
    let thread = stage.thread().await;
    finish_on(&stage, &receiver, thread).await;
    let (first, body) = receiver.next().await;
    assert_eq!(first["webhook-attempt"], "1");
    next_wait(&stage).await;
    // What happens on the thread later does not change what is told of the run.
    let later = stage.run_on(thread, request()).await;
    stage.runtime.next_run().await.succeed(&json!({ "x": "later" }));
    stage.result(later).await;
    for (attempt, seconds) in [("2", 2.0), ("3", 10.0), ("4", 60.0)] {
        let wait = next_wait(&stage).await.expect("it is not tried again");
        assert!((1.0..=1.2).contains(&(wait.as_secs_f64() / seconds)), "attempt {attempt} after {wait:?}");
        stage.advance(wait);
        let (again, same) = receiver.next().await;
        assert_eq!(again["webhook-attempt"], attempt);
        assert_eq!((&again["webhook-id"], &same), (&first["webhook-id"], &body));
        let sent = again["webhook-timestamp"].to_str().unwrap().parse::<i64>().unwrap();
        assert_eq!(sent, stage.clock.now().as_millis() / 1_000, "the timestamp is the attempt's");
    }
    assert_eq!(next_wait(&stage).await, None);
    assert!(receiver.heard_all());
}

#[tokio::test]
async fn a_receiver_that_is_down_is_tried_again() {
    let stage = Stage::set().await;
    // Bound but not listening, so that nobody else gets the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/hook", socket.local_addr().unwrap());
    let thread = stage.thread().await;
    let started = stage.run_on(thread, RunRequest { webhook: Some(url), ..request() }).await;
    stage.runtime.next_run().await.succeed(&json!({ "x": 2 }));
    stage.result(started).await;
    let wait = next_wait(&stage).await.expect("it is not tried again");
    assert!((1.0..=1.2).contains(&(wait.as_secs_f64() / 2.0)), "{wait:?}");
}

#[tokio::test]
async fn what_a_server_could_not_send_any_more_is_sent_by_the_next() {
    let mut receiver = Receiver::start(&[]).await;
    let (storage, folder) = crate::storage();
    let now = ManualClock::start().now();
    let mut new = new_run(RunId(Uuid::from_u128(1)), ThreadId(Uuid::from_u128(2)), now);
    new.create_thread = Some(Map::new());
    new.run.kwargs.webhook = Some(receiver.url.clone());
    storage.create_run(new).await.unwrap();
    let claim = ClaimRuns { lease_id: LeaseId(Uuid::from_u128(3)), limit: 1, now, until: now };
    let lease = storage.claim_runs(claim).await.unwrap().runs[0].lease;
    let values = Some(raw(&json!({ "x": 2 })));
    let ending =
        Ending { status: EndStatus::Success, error: None, cause: None, values, thread: None, at: now, unsealed: false };
    storage.finish_run(lease, ending).await.unwrap();

    let stage = Stage::set_on(storage, folder, LocalBusConfig::default(), |_| {}).await;
    assert_eq!(json_of(&receiver.next().await.1)["values"], json!({ "x": 2 }));
    assert_eq!(next_wait(&stage).await, None);
}

#[tokio::test]
async fn the_end_of_a_run_on_a_temporary_thread_is_told_as_well() {
    let (stage, mut receiver) = (Stage::set().await, Receiver::start(&[503]).await);
    let started = stage.engine.create_run(with_webhook(&receiver), ThreadChoice::New(true)).await.unwrap();
    stage.runtime.next_run().await.succeed(&json!({ "x": 2 }));
    stage.result(started).await;
    let (_, body) = receiver.next().await;
    stage.advance(next_wait(&stage).await.expect("it is not tried again"));
    assert_eq!(receiver.next().await.1, body, "that the thread is gone does not matter");
}

#[tokio::test]
async fn a_run_that_never_began_is_told_to_have_been_interrupted() {
    let (stage, mut receiver) = (Stage::set().await, Receiver::start(&[]).await);
    let thread = stage.thread().await;
    let later = RunRequest { after: Duration::from_mins(1), ..with_webhook(&receiver) };
    let run = stage.run_on(thread, later).await.run;
    stage.engine.cancel_run(thread, run.run_id, CancelAction::Interrupt, true).await.unwrap();
    let told = json_of(&receiver.next().await.1);
    assert_eq!((&told["type"], &told["run_id"]), (&json!("run.interrupted"), &json!(run.run_id)));
    assert_eq!(told.get("run_started_at"), None);
}

#[tokio::test]
async fn a_receiver_that_is_gone_hears_no_more() {
    let (stage, mut receiver) = (Stage::set().await, Receiver::start(&[410]).await);
    finish(&stage, &receiver).await;
    receiver.next().await;
    assert_eq!(next_wait(&stage).await, None);
    assert!(receiver.heard_all());
}

#[tokio::test]
async fn every_way_a_run_ends_is_told() {
    let (stage, mut receiver) = (Stage::set().await, Receiver::start(&[]).await);
    for (kind, status) in [
        ("run.error", "error"),
        ("run.waiting", "success"),
        ("run.interrupted", "interrupted"),
        ("run.rollback", "rollback"),
    ] {
        let thread = stage.thread().await;
        let started = stage.run_on(thread, with_webhook(&receiver)).await;
        let mut run = stage.runtime.next_run().await;
        let cancel = |action| stage.engine.cancel_run(thread, started.run.run_id, action, true);
        match kind {
            "run.error" => run.raise("ValueError", "negative"),
            "run.waiting" => run.pause(&json!({})),
            "run.interrupted" => drop(tokio::join!(cancel(CancelAction::Interrupt), run.stopped())),
            _ => drop(tokio::join!(cancel(CancelAction::Rollback), run.stopped())),
        }
        let told = json_of(&receiver.next().await.1);
        assert_eq!((told["type"].as_str().unwrap(), told["status"].as_str().unwrap()), (kind, status));
        assert_eq!(told["run_id"], started.run.run_id.to_string());
    }
}

#[tokio::test]
async fn switched_off_webhooks_send_nothing() {
    let stage = Stage::set_with(|settings| settings.webhooks_enabled = false).await;
    let mut receiver = Receiver::start(&[]).await;
    finish(&stage, &receiver).await;
    assert_eq!(next_wait(&stage).await, None, "there is not even a duty to send");
    assert!(receiver.heard_all());
}
