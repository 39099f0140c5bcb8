//! One line in the log for each request, what every other line of it says of the request, and its place in metrics and
//! traces.

use std::{
    fmt::Write,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method},
    middleware::Next,
    response::Response,
};
use threadyard_core::ambient::Ambient;
use threadyard_engine::Traces;
use threadyard_runtime::HeaderPatterns;
use tracing::{Instrument, Level, Span};

use super::{
    custom_app::Peer,
    error::Detail,
    http_metrics::{AnsweredBy, HttpMetrics},
    request_id::RequestId,
    request_traces,
};

/// What is logged and counted of requests.
#[derive(Clone)]
pub(super) struct AccessLog {
    /// Which headers are shown.
    pub(super) headers: Arc<HeaderPatterns>,
    pub(super) ambient: Ambient,
    pub(super) metrics: Arc<HttpMetrics>,
    pub(super) traces: Traces,
}

/// What asks again and again would fill the log.
const FREQUENT: [&str; 2] = ["/ok", "/metrics"];

pub(super) async fn log(State(log): State<AccessLog>, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers(), &log.ambient);
    let (method, started) = (request.method().clone(), Instant::now());
    let mut span = request_traces::begin(&log.traces, &mut request, &id);
    let asked = tracing::enabled!(target: "access", Level::INFO).then(|| Asked::of(&request, &id, &log.headers));
    request.extensions_mut().insert(id);
    let answer = match &asked {
        Some(asked) => next.run(request).instrument(asked.span.clone()).await,
        None => next.run(request).await,
    };

    let took = started.elapsed();
    let by = answer.extensions().get::<AnsweredBy>();
    log.metrics.answered(&method, answer.status(), by, took);
    request_traces::answered(&mut span, &method, by.map(AnsweredBy::template), answer.status());
    if let Some(asked) = asked {
        asked.span.in_scope(|| asked.say(&method, &answer, took));
    }
    log.metrics.counted(answer)
}

/// What the line says of a request.
struct Asked {
    path: String,
    proto: &'static str,
    headers: Option<String>,
    client: Option<IpAddr>,
    span: Span,
}

impl Asked {
    fn of(request: &Request, RequestId(id): &RequestId, patterns: &HeaderPatterns) -> Self {
        let (method, path) = (request.method().as_str(), request.uri().path());
        Self {
            path: path.to_owned(),
            proto: if request.version() == axum::http::Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
            client: request.extensions().get::<Peer>().map(|peer| peer.address.ip().to_canonical()),
            headers: (!patterns.is_empty()).then(|| shown(request.headers(), patterns)),
            span: tracing::info_span!(target: "access", "request", request_id = &**id, path, method),
        }
    }

    /// Failures of the server are errors, and what is asked for all the time is not worth a line unless one wants all.
    fn say(&self, method: &Method, answer: &Response, took: Duration) {
        let Self { path, proto, headers, client, .. } = self;
        let status = answer.status().as_u16();
        let latency_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let error_detail = answer.extensions().get::<Detail>().map(|Detail(detail)| &**detail);
        let headers = headers.as_deref();
        let client = client.map(tracing::field::display);
        if status >= 500 {
            tracing::error!(target: "access", status, latency_ms, proto, client, error_detail, headers, "{method} {path} {status} {latency_ms}ms");
        } else if FREQUENT.contains(&path.as_str()) {
            tracing::debug!(target: "access", status, latency_ms, proto, client, error_detail, headers, "{method} {path} {status} {latency_ms}ms");
        } else {
            tracing::info!(target: "access", status, latency_ms, proto, client, error_detail, headers, "{method} {path} {status} {latency_ms}ms");
        }
    }
}

fn shown(headers: &HeaderMap, patterns: &HeaderPatterns) -> String {
    let mut shown = String::new();
    for (name, value) in headers.iter().filter(|(name, _)| patterns.include(name.as_str())) {
        let gap = if shown.is_empty() { "" } else { " " };
        let _ = write!(shown, "{gap}{name}={:?}", String::from_utf8_lossy(value.as_bytes()));
    }
    shown
}
