//! Answers to interrupts, and whether anybody waits for them.

use threadyard_core::{
    event_streaming::answered_ids,
    json::{Object, Value},
    runs::{Run, RunError},
    storage::Result,
    threads::Thread,
};

use crate::Engine;

/// The ids of the interrupts that wait for an answer on a thread.
pub(crate) fn open_interrupts(thread: &Thread) -> Vec<String> {
    let Some(outcome) = &thread.outcome else { return Vec::new() };
    let tasks: Object = serde_json::from_str(outcome.interrupts.get()).unwrap_or_default();
    let interrupts = tasks.values().filter_map(Value::as_array).flatten();
    interrupts.filter_map(|interrupt| interrupt.get("id")?.as_str().map(str::to_owned)).collect()
}

/// Why a run is refused that was asked to answer only what waits.
pub(crate) async fn refusal(engine: &Engine, run: &Run) -> Result<Option<RunError>> {
    let Some(answered) = run.kwargs.strict_resume.then(|| answered_ids(run)).flatten() else { return Ok(None) };
    let thread = engine.storage.thread(run.thread_id).await?;
    let open = thread.map(|thread| open_interrupts(&thread)).unwrap_or_default();
    let unknown: Vec<_> = answered.into_iter().filter(|id| !open.contains(id)).collect();
    let list = |ids: &[String]| if ids.is_empty() { "nothing".to_owned() } else { ids.join(", ") };
    let message = || format!("{} does not wait for an answer; {} does", list(&unknown), list(&open));
    Ok((!unknown.is_empty()).then(|| RunError { error: "UnknownInterruptError".into(), message: message() }))
}
