//! The HTTP API without a network: the router, real storage, and a runtime that the test plays.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod agents;
mod bodies;
mod edge;
mod openapi;
mod streams;
mod webhooks;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{Request, Response, StatusCode},
};
use clap::Parser;
use futures_util::StreamExt;
use serde_json::Value;
use tempfile::TempDir;
use threadyard::{
    api::{HttpLimits, HttpSettings, OperatorAccess},
    config::ServerArgs,
};
use threadyard_backends::{LocalBus, LocalBusConfig, SqliteStorage};
use threadyard_core::webhook_policy::{WebhookHeaders, WebhookPolicy};
use threadyard_core::{
    ambient::Ambient, items::ItemTtl, limits::RunLimits, retention::DeliveryTimes, testkit::ScriptedRuntime,
};
use threadyard_engine::{Engine, Faults, Parts, Role, Settings, Sweep, Traces};
use threadyard_runtime::{CorsRules, HttpOptions};
use tower::ServiceExt;

/// Longer than anything here takes, however busy the machine is.
const SOON: Duration = Duration::from_mins(2);

/// What breaks the silence of a stream.
const BEAT: &str = ": heartbeat\r\n\r\n";

/// The settings of a server as they are when nobody says anything.
#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    server: ServerArgs,
}

struct Api {
    router: Router,
    runtime: Arc<ScriptedRuntime>,
    _folder: TempDir,
}

impl Api {
    async fn start() -> Self {
        Self::start_for(OperatorAccess::Everybody).await
    }

    async fn start_for(access: OperatorAccess) -> Self {
        let flags = Flags::parse_from(["test"]).server;
        Self::start_with(access, HttpOptions::default(), flags.cors(None), HttpLimits::default()).await
    }

    async fn start_with(access: OperatorAccess, options: HttpOptions, cors: CorsRules, limits: HttpLimits) -> Self {
        Self::start_limited(access, options, cors, (limits, RunLimits::default())).await
    }

    async fn start_limited(
        access: OperatorAccess,
        options: HttpOptions,
        cors: CorsRules,
        (limits, run_limits): (HttpLimits, RunLimits),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Arc::new(SqliteStorage::open(folder.path()).unwrap());
        let settings = Settings {
            concurrency: 4,
            run_limits,
            run_timeout: Duration::from_hours(1),
            stop_within: Duration::from_secs(10),
            decrypt_within: Duration::from_secs(20),
            max_attempts: 3,
            lease: Duration::from_mins(1),
            events_kept: Duration::from_mins(2),
            webhooks_enabled: true,
            webhook_master: None,
            webhook_policy: WebhookPolicy::production(),
            webhook_headers: WebhookHeaders::default(),
            webhook_pace: threadyard_core::webhook_pace::WebhookPace::production(),
            deliveries_kept: DeliveryTimes { body: Duration::from_hours(72), row: Duration::from_hours(720) },
            thread_ttl: None,
            sweep: Sweep::default(),
            item_ttl: ItemTtl::default(),
            item_index: None,
            item_sweep: Sweep::default(),
            role: Role::All,
            faults: Faults::new(None),
        };
        let ambient = Ambient::system();
        let bus = Arc::new(LocalBus::new(LocalBusConfig::default(), ambient.clone()));
        let runtime = ScriptedRuntime::start();
        let http = HttpSettings {
            sealing: None,
            options,
            cors,
            gate: None,
            limits,
            auth_openapi: None,
            ambient: ambient.clone(),
            app: None,
            ui: None,
            metrics: Arc::default(),
            traces: Traces::default(),
        };
        let parts = Parts {
            storage,
            bus,
            runtime: runtime.clone(),
            own_app: None,
            ambient,
            traces: Traces::default(),
            settings,
        };
        let engine = Engine::start(parts).await.unwrap();
        Self { router: threadyard::api::router(engine, access, &http), runtime, _folder: folder }
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> Response<Body> {
        self.send_with(method, path, &[], body).await
    }

    async fn send_with(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        tokio::time::timeout(SOON, self.router.clone().oneshot(request)).await.unwrap().unwrap()
    }

    async fn thread(&self) -> String {
        json(self.send("POST", "/threads", "{}").await).await.1["thread_id"].as_str().unwrap().to_owned()
    }

    async fn status_of(&self, place: &str) -> Value {
        json(self.send("GET", place, "").await).await.1["status"].clone()
    }
}

async fn json(answer: Response<Body>) -> (StatusCode, Value) {
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() })
}

async fn text(answer: Response<Body>) -> String {
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

/// The pieces of an answer as they come.
struct Pieces(axum::body::BodyDataStream);

impl Pieces {
    fn of(answer: Response<Body>) -> Self {
        assert_eq!(answer.status(), StatusCode::OK);
        Self(answer.into_body().into_data_stream())
    }

    /// What is said next, or nothing at the end: how often silence is broken before is a matter of time.
    async fn next(&mut self) -> Option<String> {
        loop {
            match self.any().await {
                Some(beat) if beat == BEAT || beat == "\n" => {}
                piece => return piece,
            }
        }
    }

    /// The next piece, if only to say that somebody is there.
    async fn any(&mut self) -> Option<String> {
        let piece: Option<Result<Bytes, _>> = tokio::time::timeout(SOON, self.0.next()).await.unwrap();
        piece.map(|bytes| String::from_utf8(bytes.unwrap().to_vec()).unwrap())
    }

    async fn rest(mut self) -> String {
        let mut text = String::new();
        while let Some(piece) = self.next().await {
            text.push_str(&piece);
        }
        text
    }
}
