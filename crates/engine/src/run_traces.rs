//! What the span of an attempt says of its run, in the words of OpenTelemetry for agents where there are some.

use opentelemetry::{KeyValue, trace::SpanKind};
use threadyard_core::runs::{EndStatus, GivenBack, Run};

use crate::{Begun, Span, run_task::Outcome};

/// An attempt begins.
pub(crate) fn begun(run: &Run) -> Begun {
    let mut attributes = vec![
        KeyValue::new("gen_ai.operation.name", "invoke_agent"),
        KeyValue::new("gen_ai.agent.name", run.graph_id.clone()),
        KeyValue::new("gen_ai.agent.id", run.assistant_id.to_string()),
        KeyValue::new("gen_ai.conversation.id", run.thread_id.to_string()),
        KeyValue::new("langgraph.run_id", run.run_id.to_string()),
        KeyValue::new("langgraph.run_attempt", i64::from(run.attempt)),
    ];
    if let (1, Some(started)) = (run.attempt, run.started_at) {
        let waited = started.since(run.created_at).as_millis();
        attributes.push(KeyValue::new("langgraph.run_queue_ms", i64::try_from(waited).unwrap_or(i64::MAX)));
    }
    Begun { name: format!("invoke_agent {}", run.graph_id).into(), kind: SpanKind::Internal, attributes }
}

/// It has ended.
pub(crate) fn ended(span: &mut Span, outcome: &Outcome) {
    match outcome {
        Outcome::Ended(ending, _) => {
            span.set("langgraph.run_status", ending.status.as_str());
            match (ending.status, &ending.error) {
                // What it says, and not only of which kind it is, may be secret.
                (EndStatus::Error, Some(error)) => span.fail(&error.error),
                (EndStatus::Error | EndStatus::Timeout, _) => span.fail(ending.status.as_str()),
                _ => {}
            }
        }
        Outcome::HandOver { why: GivenBack::Blameless, .. } => span.set("langgraph.run_status", "pending"),
        Outcome::HandOver { .. } => span.fail("attempt_failed"),
    }
}
