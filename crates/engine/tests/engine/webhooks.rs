//! What the receiver of a webhook hears, with a clock that the test moves.

use std::{
    collections::VecDeque,
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
use serde_json::json;
use threadyard_core::runs::CancelAction;
use threadyard_engine::RunRequest;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::task::TaskTracker;

use crate::{SOON, Stage, json_of, request};

type Heard = (HeaderMap, Bytes);

/// Answers with the statuses it is given, then with 200.
struct Receiver {
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
    async fn start(statuses: &[u16]) -> Self {
        let (tell, heard) = mpsc::unbounded_channel();
        let answers = Answers { statuses: Arc::new(Mutex::new(statuses.iter().copied().collect())), tell };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(receive)).with_state(answers);
        let tasks = TaskTracker::new();
        tasks.spawn(async move { axum::serve(listener, router).await });
        Self { url, heard, _tasks: tasks }
    }

    async fn next(&mut self) -> Heard {
        tokio::time::timeout(SOON, self.heard.recv()).await.expect("no webhook came").unwrap()
    }

    /// Whether it stays quiet, as long as one may expect to be sure.
    async fn stays_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(150), self.heard.recv()).await.is_err()
    }
}

async fn receive(State(answers): State<Answers>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let status = answers.statuses.lock().unwrap().pop_front().unwrap_or(200);
    let _ = answers.tell.send((headers, body));
    StatusCode::from_u16(status).unwrap()
}

fn with_webhook(receiver: &Receiver) -> RunRequest {
    RunRequest { webhook: Some(receiver.url.clone()), ..request() }
}

/// Lets a run with this webhook succeed.
async fn finish(stage: &Stage, receiver: &Receiver) {
    let thread = stage.thread().await;
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
    // Quiet first, so that what came of the attempt is stored.
    assert!(receiver.stays_quiet().await);
    stage.advance(Duration::from_hours(100));
    assert!(receiver.stays_quiet().await);
}

#[tokio::test]
async fn a_refused_webhook_comes_again_with_the_same_id_and_body() {
    let (stage, mut receiver) = (Stage::set().await, Receiver::start(&[500, 302, 404]).await);
    finish(&stage, &receiver).await;
    let (first, body) = receiver.next().await;
    for (attempt, wait) in [("2", 3), ("3", 12), ("4", 72)] {
        assert!(receiver.stays_quiet().await, "attempt {attempt} came too early");
        stage.advance(Duration::from_secs(wait));
        let (again, same) = receiver.next().await;
        assert_eq!(again["webhook-attempt"], attempt);
        assert_eq!((&again["webhook-id"], &same), (&first["webhook-id"], &body));
    }
    // Quiet first, so that what came of the attempt is stored.
    assert!(receiver.stays_quiet().await);
    stage.advance(Duration::from_hours(100));
    assert!(receiver.stays_quiet().await);
}

#[tokio::test]
async fn a_receiver_that_is_gone_hears_no_more() {
    let (stage, mut receiver) = (Stage::set().await, Receiver::start(&[410]).await);
    finish(&stage, &receiver).await;
    receiver.next().await;
    // Quiet first, so that what came of the attempt is stored.
    assert!(receiver.stays_quiet().await);
    stage.advance(Duration::from_hours(100));
    assert!(receiver.stays_quiet().await);
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
    assert!(receiver.stays_quiet().await);
}
