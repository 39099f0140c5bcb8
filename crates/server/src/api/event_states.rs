//! The commands of event streaming about a thread's states: to look at them, to list them, and to go on from one.

use serde::Deserialize;
use serde_json::{Value, json};
use threadyard_core::{
    ids::ThreadId,
    json::{Object, RawJson, RawObject, fields, fields_of, raw},
};
use threadyard_engine::{CheckpointRef, Engine, Error, ForkRun, HistoryQuery};

use super::event_commands::{Refusal, parsed};

const LISTED: u32 = 10;

#[derive(Deserialize)]
struct Get {
    #[serde(default)]
    namespace: Vec<String>,
    keys: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct State {
    values: RawJson,
    checkpoint: Option<Named>,
    created_at: Option<String>,
    metadata: Option<Object>,
}

#[derive(Deserialize)]
struct Named {
    checkpoint_id: Option<String>,
}

/// The values of a graph, or some of them.
pub(super) async fn get(engine: &Engine, thread: ThreadId, params: &RawObject) -> Result<Value, Refusal> {
    let Get { namespace, keys } = parsed(params)?;
    let state = match engine.thread_state(thread, &at(&namespace), false).await {
        Err(Error::Raised(error)) if !namespace.is_empty() => {
            return Err(Refusal::new("no_such_namespace", error.message));
        }
        state => understood::<State>(&state?)?,
    };
    let values = match keys {
        Some(keys) => {
            let mut values = fields_of(&state.values).unwrap_or_default();
            values.retain(|key, _| keys.contains(key));
            raw(&values)
        }
        None => state.values,
    };
    let mut result = fields(&json!({}));
    result.insert("values".into(), values);
    match state.checkpoint.and_then(|checkpoint| checkpoint.checkpoint_id) {
        Some(id) => drop(result.insert("checkpoint".into(), raw(&json!({ "id": id, "ns": namespace.join("|") })))),
        None if !namespace.is_empty() => {
            let missing = format!("no graph has left a state at {}", json!(namespace));
            return Err(Refusal::new("no_such_namespace", missing));
        }
        None => {}
    }
    Ok(json!(result))
}

#[derive(Deserialize)]
struct ListCheckpoints {
    #[serde(default)]
    namespace: Vec<String>,
    limit: Option<u32>,
    before: Option<String>,
}

/// The checkpoints of a graph, newest first.
pub(super) async fn list_checkpoints(engine: &Engine, thread: ThreadId, params: &RawObject) -> Result<Value, Refusal> {
    let ListCheckpoints { namespace, limit, before } = parsed(params)?;
    let limit = match limit.unwrap_or(LISTED) {
        limit @ 1..=1000 => limit,
        limit => return Err(Refusal::invalid(format!("limit: {limit} must be between 1 and 1000"))),
    };
    let query = HistoryQuery { limit, before, metadata: None, checkpoint: at(&namespace) };
    let history = engine.thread_history(thread, &query).await?;
    let listed = |state: State| {
        let (id, metadata) = (state.checkpoint?.checkpoint_id?, state.metadata.unwrap_or_default());
        Some(json!({ "id": id, "timestamp": state.created_at, "step": metadata.get("step"), "metadata": metadata }))
    };
    let checkpoints: Vec<_> = understood::<Vec<State>>(&history)?.into_iter().filter_map(listed).collect();
    Ok(json!({ "checkpoints": checkpoints }))
}

#[derive(Deserialize)]
struct Fork {
    checkpoint_id: String,
    input: Option<RawJson>,
    config: Option<Object>,
}

/// Starts a run from a checkpoint.
pub(super) async fn fork(
    engine: &Engine,
    thread: ThreadId,
    params: &RawObject,
    of_request: &Object,
) -> Result<Value, Refusal> {
    let Fork { checkpoint_id, input, config } = parsed(params)?;
    let (config, of_request) = (config.unwrap_or_default(), of_request.clone());
    let run_id = engine.fork_run(thread, ForkRun { checkpoint_id, input, config, of_request }).await?;
    Ok(json!({ "run_id": run_id, "thread_id": thread }))
}

fn at(namespace: &[String]) -> CheckpointRef {
    CheckpointRef { checkpoint_ns: Some(namespace.join("|")), ..CheckpointRef::default() }
}

fn understood<T: for<'de> Deserialize<'de>>(state: &RawJson) -> Result<T, Refusal> {
    serde_json::from_str(state.get())
        .map_err(|error| Error::Internal(format!("a state makes no sense: {error}")).into())
}
