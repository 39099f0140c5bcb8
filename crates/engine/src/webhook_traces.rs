//! What the span of an attempt to deliver says, and how its receiver goes on with the trace. It does not say where the
//! delivery goes: that may be secret.

use opentelemetry::{KeyValue, trace::SpanKind};
use threadyard_core::{trace_context::TraceContext, webhooks::ClaimedDelivery};

use crate::{
    Begun, Span, Traces,
    webhook_client::{Sent, UNREADABLE},
};

/// An attempt begins, below what the delivery says by its headers, which from now on name the attempt itself.
pub(crate) fn begin(traces: &Traces, delivery: &mut ClaimedDelivery) -> Span {
    if !traces.are_on() {
        return traces.begin(None, || begun(delivery));
    }
    let headers = &mut delivery.headers.0;
    let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let parent = header("traceparent").and_then(|parent| TraceContext::read(parent, header("tracestate")));
    let span = traces.begin(parent.as_ref(), || begun(delivery));
    if let Some(own) = span.context() {
        let headers = &mut delivery.headers.0;
        headers.retain(|(name, _)| !matches!(name.as_str(), "traceparent" | "tracestate"));
        headers.extend(own.headers().map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    span
}

fn begun(delivery: &ClaimedDelivery) -> Begun {
    let attributes = vec![
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("http.request.resend_count", i64::from(delivery.attempt) - 1),
        KeyValue::new("langgraph.run_id", delivery.run_id.to_string()),
        KeyValue::new("threadyard.webhook.id", delivery.id.clone()),
        KeyValue::new("threadyard.webhook.event", delivery.event.clone()),
    ];
    Begun { name: format!("webhook {}", delivery.event).into(), kind: SpanKind::Client, attributes }
}

/// What came of it.
pub(crate) fn ended(span: &mut Span, sent: &Sent) {
    match sent {
        Sent::Answer(answer) => {
            span.set("http.response.status_code", i64::from(answer.status));
            if !matches!(answer.status, 200..=299) {
                span.fail(&answer.status.to_string());
            }
        }
        Sent::Failure(why) => span.fail(why),
        Sent::Unreadable => span.fail(UNREADABLE),
        Sent::Blocked | Sent::Refused => span.fail("the URL may not be called"),
    }
}
