//! What a run has left on its thread, where the worker that executed it can say so no longer.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::json;
use threadyard_core::{
    json::{RawJson, raw},
    runs::Run,
    runtime::{CallOperation, GraphCall, RunEnd, RunEndStatus},
};

use crate::Engine;

/// So long another worker may take to say it; then nothing is known.
const WITHIN: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct State {
    values: Option<RawJson>,
    next: Vec<String>,
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct Task {
    id: String,
    interrupts: Vec<RawJson>,
}

/// The end of a run whose worker was ended, as its newest checkpoint has it. Another worker is asked, which knows the graph.
pub(crate) async fn left_behind(engine: &Engine, run: &Run) -> RunEnd {
    let args = json!({ "config": { "configurable": { "thread_id": run.thread_id, "checkpoint_ns": "" } } });
    let call = GraphCall { operation: CallOperation::StateGet, graph_id: run.graph_id.clone(), args: raw(&args) };
    let answer = tokio::time::timeout(WITHIN, engine.runtime.call(call)).await;
    let known = answer.ok().and_then(Result::ok).and_then(|answer| end(&answer));
    known.unwrap_or_else(|| {
        tracing::warn!(run_id = %run.run_id, "what the run has left could not be read");
        nothing(RunEndStatus::Cancelled)
    })
}

fn end(answer: &RawJson) -> Option<RunEnd> {
    let State { values, next, tasks } = serde_json::from_str(answer.get()).ok()?;
    let waiting = tasks.into_iter().filter(|task| !task.interrupts.is_empty());
    let interrupts: BTreeMap<_, _> = waiting.map(|task| (task.id, task.interrupts)).collect();
    Some(RunEnd {
        values,
        state: Some(answer.clone()),
        interrupts: Some(raw(&interrupts)),
        has_next: !next.is_empty(),
        ..nothing(RunEndStatus::Cancelled)
    })
}

/// An end of which only the status is known.
pub(crate) fn nothing(status: RunEndStatus) -> RunEnd {
    RunEnd { status, result: None, values: None, state: None, interrupts: None, has_next: false, error: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_read_from_the_state() {
        let state = json!({
            "values": {"x": 1}, "next": ["b"], "metadata": {},
            "tasks": [{"id": "t", "interrupts": [{"value": "why?"}], "name": "b"}, {"id": "u", "interrupts": []}],
        });
        let end = end(&raw(&state)).unwrap();
        assert_eq!((end.values.unwrap().get(), end.has_next), (r#"{"x":1}"#, true));
        assert_eq!(end.interrupts.unwrap().get(), r#"{"t":[{"value":"why?"}]}"#);
        assert_eq!(end.state.unwrap().get(), raw(&state).get());
    }
}
