//! What is counted of requests, and of the streams that they open.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::MatchedPath,
    http::{Extensions, Method, StatusCode, header},
    response::Response,
};
use futures_util::StreamExt;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode_registry},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use threadyard_engine::METRICS_PREFIX;

/// The counters of one server.
pub struct HttpMetrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    times: Family<Timed, Histogram>,
    streams: Family<Open, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: Route,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Timed {
    method: &'static str,
    route: Route,
    code_class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Open {
    kind: &'static str,
}

/// The template of the route that answered; paths themselves would be labels without end.
type Route = Arc<str>;

/// What a request was answered by, as its answer says.
#[derive(Clone)]
pub(super) struct AnsweredBy(Route);

impl AnsweredBy {
    /// One of the server's own routes, if there was one.
    pub(super) fn route(request: &Extensions) -> Option<Self> {
        request.get::<MatchedPath>().map(|path| Self(path.as_str().into()))
    }

    /// Its template.
    pub(super) fn template(&self) -> &str {
        &self.0
    }

    /// The project's application, or its middleware.
    pub(super) fn app() -> Self {
        Self("app".into())
    }
}

impl Default for HttpMetrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(METRICS_PREFIX);
        let constructor: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 4.0, 8));
        let (requests, times, streams) =
            (Family::default(), Family::new_with_constructor(constructor), Family::default());
        registry.register("http_requests", "Requests that were answered", requests.clone());
        let help = "From a request to the beginning of its answer";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, times.clone());
        registry.register("http_streams", "Streams that clients listen to", streams.clone());
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What this server was built from", build);
        Self { registry, requests, times, streams }
    }
}

impl HttpMetrics {
    /// A request was answered.
    pub(super) fn answered(&self, method: &Method, status: StatusCode, by: Option<&AnsweredBy>, took: Duration) {
        let method = known(method);
        let route = by.map_or_else(|| Route::from("none"), |AnsweredBy(route)| route.clone());
        self.requests.get_or_create(&Answered { method, route: route.clone(), status: status.as_u16() }).inc();
        let code_class = code_class(status);
        self.times.get_or_create(&Timed { method, route, code_class }).observe(took.as_secs_f64());
    }

    /// Counts an answer that is a stream of events for as long as its client listens.
    pub(super) fn counted(&self, answer: Response) -> Response {
        let kind = answer.headers().get(header::CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
            return answer;
        }
        let open = self.stream("sse");
        answer.map(|body| {
            Body::from_stream(body.into_data_stream().map(move |piece| {
                // It is closed when nobody asks for more.
                let _: &OpenStream = &open;
                piece
            }))
        })
    }

    /// Counts a stream as open until what this returns is dropped.
    pub(super) fn stream(&self, kind: &'static str) -> OpenStream {
        let open = self.streams.get_or_create_owned(&Open { kind });
        open.inc();
        OpenStream(open)
    }

    pub(super) fn write(&self, text: &mut String) {
        // Writing to a text can't fail.
        let _ = encode_registry(text, &self.registry);
    }
}

/// A stream that a client listens to.
pub(super) struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Clients may send any word as a method.
pub(super) fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

fn code_class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
