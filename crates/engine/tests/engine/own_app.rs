//! Webhooks that the project's own application takes, with an application that the test plays.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;
use tempfile::TempDir;
use threadyard_backends::{MemoryNet, SharedBusConfig};
use threadyard_core::{
    ambient::Ambient,
    bus::EventBus,
    own_app::{OwnAnswer, OwnApp, OwnDelivery},
    runtime::RuntimeError,
    storage::Storage,
    testkit::{ManualClock, ambient},
    webhook_policy::WebhookPolicy,
};
use threadyard_engine::{
    Error, Parts, Role, RunRequest, StartedRun, ThreadChoice,
    signing::{Message, ReceiverKey},
};
use tokio::sync::mpsc;

use crate::{SOON, Stage, json_of, request, storage, webhooks::next_wait};

/// Answers with the statuses it is given, then with 200.
struct PlayedApp {
    statuses: Mutex<Vec<u16>>,
    tell: mpsc::UnboundedSender<OwnDelivery>,
}

type Taken = mpsc::UnboundedReceiver<OwnDelivery>;

fn played(statuses: &[u16]) -> (Arc<PlayedApp>, Taken) {
    let (tell, taken) = mpsc::unbounded_channel();
    (Arc::new(PlayedApp { statuses: Mutex::new(statuses.iter().rev().copied().collect()), tell }), taken)
}

#[async_trait]
impl OwnApp for PlayedApp {
    async fn take(&self, delivery: OwnDelivery) -> Result<OwnAnswer, RuntimeError> {
        let status = self.statuses.lock().unwrap().pop().unwrap_or(200);
        self.tell.send(delivery).unwrap();
        Ok(OwnAnswer { status, headers: vec![("retry-after".into(), b"90".to_vec())] })
    }
}

async fn next(taken: &mut Taken) -> OwnDelivery {
    tokio::time::timeout(SOON, taken.recv()).await.expect("nothing was delivered").unwrap()
}

fn header(delivery: &OwnDelivery, wanted: &str) -> String {
    let found = delivery.headers.iter().find(|(name, _)| name == wanted);
    found.map(|(_, value)| String::from_utf8(value.clone()).unwrap()).unwrap_or_default()
}

/// What several engines share.
struct Among {
    net: MemoryNet,
    storage: Arc<dyn Storage>,
    ambient: (Ambient, Arc<ManualClock>),
    _folder: TempDir,
}

impl Among {
    fn new() -> Self {
        let (storage, folder) = storage();
        Self { net: MemoryNet::default(), storage, ambient: ambient(), _folder: folder }
    }

    async fn join(&self, role: Role, app: Option<Arc<PlayedApp>>) -> Stage {
        let bus: Arc<dyn EventBus> = Arc::new(self.net.join(SharedBusConfig::default(), self.ambient.0.clone()));
        let shared = (self.storage.clone(), tempfile::tempdir().unwrap());
        let change = |parts: &mut Parts| {
            parts.settings.role = role;
            parts.settings.lease = Duration::from_secs(30);
            parts.settings.webhook_policy = WebhookPolicy { own_app: true, ..WebhookPolicy::development() };
            parts.own_app = app.map(|app| app as Arc<dyn OwnApp>);
        };
        Stage::set_from(shared, bus, self.ambient.clone(), change).await
    }
}

async fn finish(stage: &Stage, url: &str) {
    let thread = stage.thread().await;
    let webhook = Some(url.to_owned());
    let StartedRun { run, stream } = stage.run_on(thread, RunRequest { webhook, ..request() }).await;
    stage.runtime.next_run().await.succeed(&json!({ "x": 2 }));
    let result = stage.engine.wait_for(thread, run.run_id, stream);
    tokio::time::timeout(SOON, result).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_own_application_is_told_signed_and_again_like_any_receiver() {
    let (app, mut taken) = played(&[500, 503]);
    let among = Among::new();
    let stage = among.join(Role::All, Some(app)).await;
    finish(&stage, "/done?token=s3cret").await;
    let first = next(&mut taken).await;
    assert_eq!(
        (first.route.as_str(), json_of(&first.body)["values"].clone()),
        ("/done?token=s3cret", json!({ "x": 2 }))
    );
    assert!(first.maker.is_none(), "nobody was asked who they are");
    assert_eq!((header(&first, "webhook-attempt"), header(&first, "host")), ("1".into(), "api".into()));
    assert_eq!(header(&first, "content-length"), first.body.len().to_string());
    let (_, secrets) = stage.engine.webhook_secrets("/").unwrap();
    let key = secrets[0].key.parse::<ReceiverKey>().unwrap();
    let (id, timestamp) = (header(&first, "webhook-id"), header(&first, "webhook-timestamp").parse().unwrap());
    let message = Message { id: &id, timestamp, body: &first.body };
    assert_eq!(key.verify(message, &header(&first, "webhook-signature"), timestamp), Ok(()));
    for (seconds, attempt) in [(4, "2"), (91, "3")] {
        let wait = next_wait(&stage).await.expect("it is not tried again");
        assert!(wait <= Duration::from_secs(seconds), "{wait:?}");
        stage.advance(Duration::from_secs(seconds));
        let again = next(&mut taken).await;
        assert_eq!((header(&again, "webhook-attempt"), &again.body), (attempt.to_owned(), &first.body));
        assert_eq!(header(&again, "webhook-id"), id);
    }
}

#[tokio::test]
async fn whichever_server_has_the_application_tells_it() {
    let (app, mut taken) = played(&[]);
    let among = Among::new();
    let sender = among.join(Role::Sender, None).await;
    let worker = among.join(Role::Worker, None).await;
    let front = among.join(Role::Api, Some(app)).await;
    let thread = front.thread().await;
    let webhook = Some("/done".to_owned());
    let asked = RunRequest { webhook, ..request() };
    front.engine.create_run(asked, ThreadChoice::Existing(thread, false)).await.unwrap();
    worker.runtime.next_run().await.succeed(&json!({ "x": 2 }));
    assert_eq!(next(&mut taken).await.route, "/done");
    let told = async {
        while sender.engine.destinations().await.unwrap().iter().any(|it| it.pending > 0) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, told).await.expect("what was told is still to be sent");
}

#[tokio::test]
async fn a_route_is_refused_where_nothing_takes_it() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    for url in ["/done", "//host/done", "done"] {
        let asked = RunRequest { webhook: Some(url.into()), ..request() };
        let refused = stage.engine.create_run(asked, ThreadChoice::Existing(thread, false)).await;
        assert!(matches!(refused.map(drop), Err(Error::Invalid(_))), "{url}");
    }
}
