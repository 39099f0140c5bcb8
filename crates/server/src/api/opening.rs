//! The server answers from its first moment: `/ok` at once, everything else as soon as the graphs are loaded.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::sync::watch;
use tower::ServiceExt;

/// A request waits so long for the graphs; whoever sent it may try again.
const PATIENCE: Duration = Duration::from_mins(1);

/// What answers, once there is something to answer with.
type Opened = watch::Receiver<Option<Router>>;

/// The routes of a server that is still starting; what is sent later takes over from then on.
pub(crate) fn opening(opened: Opened) -> Router {
    Router::new().fallback(answer).with_state(opened)
}

async fn answer(State(mut opened): State<Opened>, request: Request) -> Response {
    let ready = opened.borrow().clone();
    if let Some(router) = ready {
        return respond(router, request).await;
    }
    if request.uri().path() == "/ok" && request.uri().query().is_none() {
        return super::system::ok().await.into_response();
    }
    let waited = tokio::time::timeout(PATIENCE, opened.wait_for(Option::is_some)).await;
    let router = waited.ok().and_then(Result::ok).and_then(|router| router.clone());
    match router {
        Some(router) => respond(router, request).await,
        None => not_yet(),
    }
}

async fn respond(router: Router, request: Request) -> Response {
    router.oneshot(request).await.unwrap_or_else(|never| match never {})
}

fn not_yet() -> Response {
    let detail = "the graphs are still being loaded; try again in a few seconds";
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], Json(json!({ "detail": detail }))).into_response()
}
