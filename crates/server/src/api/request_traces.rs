//! What the span of a request says, and how everything that it leads to is found below it.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
};
use opentelemetry::{KeyValue, trace::SpanKind};
use threadyard_core::trace_context::TraceContext;
use threadyard_engine::{Begun, Span, Traces};

use super::{http_metrics::known, request_id::RequestId};

/// The place in a trace that a request names.
pub(super) fn read(headers: &HeaderMap) -> Option<TraceContext> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    TraceContext::read(text("traceparent")?, text("tracestate"))
}

/// A request begins. From now on it names its own span, for whoever reads its headers: the routes, and the project's
/// application.
pub(super) fn begin(traces: &Traces, request: &mut Request, RequestId(id): &RequestId) -> Span {
    if !traces.are_on() {
        return traces.begin(None, || begun(request, id));
    }
    let span = traces.begin(read(request.headers()).as_ref(), || begun(request, id));
    if let Some(own) = span.context() {
        let headers = request.headers_mut();
        headers.remove("tracestate");
        for (name, value) in own.headers() {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
    span
}

/// Queries and headers may hold secrets, and so are none of its attributes.
fn begun(request: &Request, id: &str) -> Begun {
    let method = known(request.method());
    let attributes = vec![
        KeyValue::new("http.request.method", method),
        KeyValue::new("url.path", request.uri().path().to_owned()),
        KeyValue::new("threadyard.request_id", id.to_owned()),
    ];
    Begun { name: method.into(), kind: SpanKind::Server, attributes }
}

/// It was answered, by this route.
pub(super) fn answered(span: &mut Span, method: &Method, route: Option<&str>, status: StatusCode) {
    if let Some(route) = route {
        span.rename(|| format!("{} {route}", known(method)));
        span.set("http.route", route.to_owned());
    }
    span.set("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.fail(status.as_str());
    }
}
