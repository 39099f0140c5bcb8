//! Spans of OpenTelemetry, from a request over its run to the webhook that tells of it. None are made unless somebody
//! wants them, and no span holds what a request, a graph or a receiver says: that may be secret.

use std::{borrow::Cow, collections::HashMap};

use opentelemetry::{
    Context, KeyValue, Value,
    propagation::TextMapPropagator,
    trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracer, Span as SdkSpan},
};
use threadyard_core::trace_context::TraceContext;

use crate::Engine;

/// Where spans go, if anywhere.
#[derive(Clone, Default)]
pub struct Traces(Option<SdkTracer>);

/// What begins with a span.
pub struct Begun {
    /// What it is called.
    pub name: Cow<'static, str>,
    /// Whether it serves, asks others, or neither.
    pub kind: SpanKind,
    /// What is known of it already.
    pub attributes: Vec<KeyValue>,
}

/// Something that takes its time, until this is dropped.
pub struct Span(Option<SdkSpan>);

impl Traces {
    /// Spans go where this tracer sends them.
    pub fn to(tracer: SdkTracer) -> Self {
        Self(Some(tracer))
    }

    /// Whether they go anywhere.
    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a span, below the one that `parent` names.
    pub fn begin(&self, parent: Option<&TraceContext>, begun: impl FnOnce() -> Begun) -> Span {
        let Some(tracer) = &self.0 else { return Span(None) };
        let Begun { name, kind, attributes } = begun();
        let parent = parent.map(remote).unwrap_or_default();
        let builder = tracer.span_builder(name).with_kind(kind).with_attributes(attributes);
        Span(Some(tracer.build_with_context(builder, &parent)))
    }
}

impl Span {
    /// By which it is found, unless there is none.
    pub fn context(&self) -> Option<TraceContext> {
        let context = Context::new().with_remote_span_context(self.0.as_ref()?.span_context().clone());
        let mut carrier = HashMap::new();
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
        let state = carrier.get("tracestate").map(String::as_str).filter(|state| !state.is_empty());
        TraceContext::read(carrier.get("traceparent")?, state)
    }

    /// Calls it something else, now that more is known.
    pub fn rename(&mut self, name: impl FnOnce() -> String) {
        if let Some(span) = &mut self.0 {
            span.update_name(name());
        }
    }

    /// Says more about it.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// It came to a bad end, of this kind.
    pub fn fail(&mut self, kind: &str) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new("error.type", kind.to_owned()));
            span.set_status(Status::error(""));
        }
    }
}

fn remote(parent: &TraceContext) -> Context {
    let carrier: HashMap<_, _> = parent.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
}

impl Engine {
    /// The same, for a request at this place in a trace.
    #[must_use]
    pub fn within(&self, trace: Option<TraceContext>) -> Self {
        let mut within = self.clone();
        within.trace = trace.map(Into::into);
        within
    }

    /// Where spans go.
    pub fn traces(&self) -> &Traces {
        &self.traces
    }
}
