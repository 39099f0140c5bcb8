//! Push configs of an agent's tasks: where to tell how they stand, while nobody listens.

use axum::http::HeaderValue;
use serde_json::{Value, json};
use threadyard_core::{
    agent_parts::Version,
    agent_tasks::TaskId,
    json::Object,
    push_configs::{PushConfig, TOKEN_HEADER},
    webhook_policy::WebhookHeaders,
};
use threadyard_engine::{Error, PushTarget};

use super::{
    super::json_rpc::RpcError,
    Asked, NO_PUSH, NO_TASK,
    tasks::{no_task, task_in},
};

/// The id of a config that nobody named.
const UNNAMED: &str = "default";
const LONGEST_ID: usize = 128;
const AUTHORIZATION: &str = "authorization";

pub(super) async fn set(asked: &Asked<'_>) -> Result<Value, RpcError> {
    let params = &asked.call.params;
    let task = task_in(params, "taskId")?;
    let target = match asked.version {
        Version::V1 => target(params, asked.version)?,
        Version::V03 => match params.get("pushNotificationConfig") {
            Some(Value::Object(config)) => target(config, asked.version)?,
            _ => return Err(RpcError::params("pushNotificationConfig must be an object")),
        },
    };
    let kept = asked.engine.keep_push_config(asked.assistant.assistant_id, task, target).await;
    kept.map(|config| shown(&config, asked.version)).map_err(|error| refusal(error, task))
}

pub(super) async fn get(asked: &Asked<'_>) -> Result<Value, RpcError> {
    let (task, id) = named(asked)?;
    let configs = configs(asked, task).await?;
    let found = configs.iter().find(|config| id.as_ref().is_none_or(|id| config.id == *id));
    found.map(|config| shown(config, asked.version)).ok_or_else(no_config)
}

pub(super) async fn list(asked: &Asked<'_>) -> Result<Value, RpcError> {
    let task = task_in(&asked.call.params, task_key(asked.version))?;
    let configs = configs(asked, task).await?;
    let shown: Vec<_> = configs.iter().map(|config| shown(config, asked.version)).collect();
    Ok(match asked.version {
        Version::V03 => shown.into(),
        Version::V1 => json!({ "configs": shown, "nextPageToken": "" }),
    })
}

pub(super) async fn delete(asked: &Asked<'_>) -> Result<Value, RpcError> {
    let (task, Some(id)) = named(asked)? else { return Err(RpcError::params("the id of the config is missing")) };
    let deleted = asked.engine.delete_push_config(asked.assistant.assistant_id, task, id).await;
    if !deleted.map_err(|error| refusal(error, task))? {
        return Err(no_config());
    }
    Ok(if asked.version == Version::V03 { Value::Null } else { json!({}) })
}

async fn configs(asked: &Asked<'_>, task: TaskId) -> Result<Vec<PushConfig>, RpcError> {
    let configs = asked.engine.push_configs(asked.assistant.assistant_id, task).await;
    configs.map_err(|error| refusal(error, task))
}

fn task_key(version: Version) -> &'static str {
    if version == Version::V03 { "id" } else { "taskId" }
}

/// The task and the config that a request is about.
fn named(asked: &Asked<'_>) -> Result<(TaskId, Option<String>), RpcError> {
    let params = &asked.call.params;
    let key = if asked.version == Version::V03 { "pushNotificationConfigId" } else { "id" };
    Ok((task_in(params, task_key(asked.version))?, text(params, key)?))
}

fn no_config() -> RpcError {
    RpcError::new(NO_TASK, "Push notification config not found")
}

/// Why something about push configs is not done.
pub(super) fn refusal(error: Error, task: TaskId) -> RpcError {
    match error {
        Error::NotFound(_) => no_task(task),
        Error::Conflict(why) => RpcError::new(NO_PUSH, why),
        other => other.into(),
    }
}

/// The config that comes with a message, if one does.
pub(super) fn with_message(configuration: &Object, version: Version) -> Result<Option<PushTarget>, RpcError> {
    let key = if version == Version::V03 { "pushNotificationConfig" } else { "taskPushNotificationConfig" };
    match configuration.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(config)) => target(config, version).map(Some),
        Some(_) => Err(RpcError::params(format!("configuration.{key} must be an object"))),
    }
}

fn text(given: &Object, name: &str) -> Result<Option<String>, RpcError> {
    match given.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(RpcError::params(format!("{name} must be a string"))),
    }
}

fn target(config: &Object, version: Version) -> Result<PushTarget, RpcError> {
    let id = text(config, "id")?.unwrap_or_else(|| UNNAMED.into());
    if id.chars().count() > LONGEST_ID {
        return Err(RpcError::params(format!("id must have at most {LONGEST_ID} characters")));
    }
    let url = text(config, "url")?.ok_or_else(|| RpcError::params("url is missing"))?;
    let mut headers = Vec::new();
    if let Some(token) = text(config, "token")? {
        headers.push((TOKEN_HEADER.to_owned(), token));
    }
    match config.get("authentication") {
        None | Some(Value::Null) => {}
        Some(Value::Object(how)) => headers.push((AUTHORIZATION.to_owned(), credentials(how, version)?)),
        Some(_) => return Err(RpcError::params("authentication must be an object")),
    }
    if headers.iter().any(|(_, value)| HeaderValue::from_str(value).is_err()) {
        return Err(RpcError::params("the token and credentials must be what a header can hold"));
    }
    Ok(PushTarget { id, url, headers: WebhookHeaders(headers), version })
}

fn credentials(how: &Object, version: Version) -> Result<String, RpcError> {
    let scheme = match version {
        Version::V1 => text(how, "scheme")?,
        Version::V03 => how.get("schemes").and_then(|schemes| schemes[0].as_str()).map(str::to_owned),
    };
    match (scheme, text(how, "credentials")?) {
        (Some(scheme), Some(credentials)) => Ok(format!("{scheme} {credentials}")),
        _ => Err(RpcError::params("authentication must have a scheme and its credentials")),
    }
}

/// A config, without what is for the receiver alone.
fn shown(config: &PushConfig, version: Version) -> Value {
    let mut shown = json!({ "id": config.id, "url": config.url });
    let credentials = config.headers.0.iter().find(|(name, _)| name == AUTHORIZATION);
    if let Some((scheme, _)) = credentials.and_then(|(_, value)| value.split_once(' ')) {
        shown["authentication"] = match version {
            Version::V03 => json!({ "schemes": [scheme] }),
            Version::V1 => json!({ "scheme": scheme }),
        };
    }
    let task = config.task.to_string();
    match version {
        Version::V03 => json!({ "taskId": task, "pushNotificationConfig": shown }),
        Version::V1 => {
            shown["taskId"] = task.into();
            shown
        }
    }
}
