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

use super::extract::repeated;

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
    match (request.uri().path(), request.uri().query()) {
        ("/ok", None) => return super::system::ok().await.into_response(),
        // Who looks whether to send requests here is told at once.
        ("/ok", query) if repeated(query, "ready").iter().any(|asked| asked == "1") => return not_yet(),
        _ => {}
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

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn whether_requests_are_served_is_told_at_once() {
        let (open, opened) = watch::channel(None);
        let starting = opening(opened);
        let ask = |path: &str| {
            let asked = respond(starting.clone(), Request::get(path).body(Body::empty()).unwrap());
            let answer = asked.now_or_never().expect("it is waited for");
            (answer.status().as_u16(), answer.headers().get(header::RETRY_AFTER).cloned())
        };
        assert_eq!(ask("/ok"), (200, None));
        assert_eq!(ask("/ok?ready=1"), (503, Some("5".parse().unwrap())));
        open.send_replace(Some(Router::new().route("/ok", get(super::super::system::ok))));
        assert_eq!(ask("/ok"), (200, None));
        assert_eq!(ask("/ok?ready=1"), (200, None));
    }
}
