//! How the config of a run comes about: the assistant's, overlaid by the request's, with the server's own keys on top.

use serde_json::json;
use threadyard_core::{
    access::User,
    assistants::Assistant,
    event_streaming::MARKER,
    ids::{RunId, ThreadId},
    json::{Object, Value},
    runs::ClaimedRun,
};

use crate::{
    Error, Result, RunRequest,
    access::{name_nobody, name_user},
};

/// The config and context that a request and its assistant make together.
pub(crate) struct MergedConfig {
    pub(crate) config: Object,
    pub(crate) context: Object,
}

/// Lays a request's config and context over the assistant's. `configurable` and `context` mirror each other, so only one
/// of them may be given.
pub(crate) fn merge(assistant: &Assistant, config: &Object, context: &Object) -> Result<MergedConfig> {
    check(config)?;
    let given = object(config, "configurable");
    if !given.is_empty() && !context.is_empty() {
        return Err(Error::Refused("give either `config.configurable` or `context`, not both".into()));
    }
    let mut configurable = object(&assistant.config, "configurable");
    let mut runtime_context = assistant.context.clone();
    let overlay = if context.is_empty() { given } else { context.clone() };
    configurable.extend(overlay.clone());
    runtime_context.extend(overlay);

    let mut merged = assistant.config.clone();
    merged.extend(config.clone());
    merged.insert("configurable".into(), configurable.into());
    Ok(MergedConfig { config: merged, context: runtime_context })
}

/// Refuses parts of a config that LangGraph would not understand.
fn check(config: &Object) -> Result<()> {
    let unless = |key: &str, fits: fn(&Value) -> bool, what: &str| match config.get(key) {
        Some(value) if !value.is_null() && !fits(value) => {
            Err(Error::Invalid(format!("config.{key}: {value} must be {what}")))
        }
        _ => Ok(()),
    };
    unless("configurable", Value::is_object, "an object")?;
    unless("metadata", Value::is_object, "an object")?;
    unless("tags", |tags| tags.as_array().is_some_and(|tags| tags.iter().all(Value::is_string)), "a list of texts")?;
    unless("recursion_limit", Value::is_i64, "an integer")
}

/// Adds what the run sees of the request that asks for it; a proxy may have set it, so the client can't.
pub(crate) fn add_configurable(config: &mut Object, of_request: &Object) {
    if let Some(Value::Object(configurable)) = config.get_mut("configurable") {
        configurable.extend(of_request.clone());
    }
}

/// Adds the keys that name the run; a caller can't set them.
pub(crate) fn name_run(config: &mut Object, names: &RunNames<'_>) {
    let mut configurable = object(config, "configurable");
    configurable.insert("run_id".into(), names.run_id.to_string().into());
    configurable.insert("thread_id".into(), names.thread_id.to_string().into());
    configurable.insert("graph_id".into(), names.assistant.graph_id.clone().into());
    configurable.insert("assistant_id".into(), names.assistant.assistant_id.to_string().into());
    match names.user {
        Some(user) => name_user(&mut configurable, user),
        None => name_nobody(&mut configurable),
    }
    if let Some(cron_id) = names.request.cron_id {
        configurable.insert("cron_id".into(), cron_id.to_string().into());
    }
    configurable.shift_remove(MARKER);
    if names.request.event_streaming {
        configurable.insert(MARKER.into(), true.into());
    }
    config.insert("configurable".into(), configurable.into());
}

/// What the metadata of runs and threads say about the assistant.
pub(crate) fn belongs_to(assistant: &Assistant) -> Object {
    let mut belongs = Object::new();
    belongs.insert("graph_id".into(), assistant.graph_id.clone().into());
    belongs.insert("assistant_id".into(), assistant.assistant_id.to_string().into());
    belongs
}

/// Adds the run's metadata, under those that the config itself brought.
pub(crate) fn add_metadata(config: &mut Object, metadata: &Object) {
    let mut all = metadata.clone();
    all.extend(object(config, "metadata"));
    config.insert("metadata".into(), all.into());
}

/// What a run is called.
pub(crate) struct RunNames<'a> {
    pub(crate) run_id: RunId,
    pub(crate) thread_id: ThreadId,
    pub(crate) assistant: &'a Assistant,
    pub(crate) request: &'a RunRequest,
    /// On whose behalf it is.
    pub(crate) user: Option<&'a User>,
}

/// The config a graph sees: the run's own, with the metadata of everything it belongs to.
pub(crate) fn for_attempt(claimed: &ClaimedRun) -> Object {
    let run = &claimed.run;
    let mut config = run.kwargs.config.clone();
    let mut metadata = claimed.thread_metadata.clone();
    metadata.extend(object(&config, "metadata"));
    metadata.insert("graph_id".into(), run.graph_id.clone().into());
    metadata.insert("assistant_id".into(), run.assistant_id.to_string().into());
    let user_id = object(&config, "configurable").shift_remove("user_id");
    metadata.insert("user_id".into(), user_id.unwrap_or_else(|| "".into()));
    metadata.insert("run_attempt".into(), run.attempt.into());
    metadata.insert("langgraph_host".into(), "self-hosted".into());
    config.insert("metadata".into(), metadata.into());
    config
}

/// What a thread shows of the config of its last run.
pub(crate) fn for_thread(config: &Object) -> Object {
    let mut shown = config.clone();
    shown.shift_remove("metadata");
    shown.insert("configurable".into(), json!({}));
    shown
}

/// The object under `key`, or an empty one.
fn object(within: &Object, key: &str) -> Object {
    match within.get(key) {
        Some(Value::Object(object)) => object.clone(),
        _ => Object::new(),
    }
}

#[cfg(test)]
mod tests {
    use threadyard_core::{ids::AssistantId, time::Timestamp};

    use super::*;

    fn assistant(config: Value, context: Value) -> Assistant {
        let object = |value| if let Value::Object(object) = value { object } else { Object::new() };
        Assistant {
            assistant_id: AssistantId::of_graph("g"),
            graph_id: "g".into(),
            config: object(config),
            context: object(context),
            metadata: Object::new(),
            name: "g".into(),
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            version: 1,
            description: None,
        }
    }

    fn merged(request: Value, context: Value) -> Result<(Value, Value)> {
        let base = assistant(json!({"tags": ["a"], "configurable": {"x": 1, "y": 1}}), json!({"x": 1, "y": 1}));
        let (Value::Object(request), Value::Object(context)) = (request, context) else { unreachable!() };
        merge(&base, &request, &context).map(|merged| (json!(merged.config), json!(merged.context)))
    }

    #[test]
    fn the_request_overlays_the_assistant_and_is_mirrored() {
        let (config, context) = merged(json!({"configurable": {"x": 2}}), json!({})).unwrap();
        assert_eq!(config, json!({"tags": ["a"], "configurable": {"x": 2, "y": 1}}));
        assert_eq!(context, json!({"x": 2, "y": 1}));
        let (config, context) = merged(json!({"tags": ["b"]}), json!({"y": 3})).unwrap();
        assert_eq!(config, json!({"tags": ["b"], "configurable": {"x": 1, "y": 3}}));
        assert_eq!(context, json!({"x": 1, "y": 3}));
    }

    #[test]
    fn a_recursion_limit_is_an_integer() {
        assert!(merged(json!({"recursion_limit": 3}), json!({})).is_ok());
        assert!(matches!(merged(json!({"recursion_limit": "x"}), json!({})), Err(Error::Invalid(_))));
    }

    #[test]
    fn parts_of_the_wrong_type_are_refused() {
        for config in [json!({"configurable": []}), json!({"metadata": 1}), json!({"tags": "a"}), json!({"tags": [1]})]
        {
            assert!(matches!(merged(config.clone(), json!({})), Err(Error::Invalid(_))), "{config}");
        }
        assert!(
            merged(json!({"configurable": null, "metadata": null, "tags": null, "recursion_limit": null}), json!({}))
                .is_ok()
        );
    }

    #[test]
    fn configurable_and_context_exclude_each_other() {
        assert!(matches!(merged(json!({"configurable": {"x": 2}}), json!({"x": 3})), Err(Error::Refused(_))));
    }
}
