//! Tasks of an agent: asking for them, stopping them, listening to them again.

use axum::response::Response;
use serde_json::{Value, json};
use threadyard_core::{
    agent_parts::Version,
    agent_task_json::Telling,
    agent_task_list::TaskPage,
    agent_tasks::{Task, TaskId, TaskState},
    ids::ThreadId,
    json::Object,
    page::Window,
    stream::{EventId, StreamMode},
    time::Timestamp,
};
use threadyard_engine::{Error, FoundTask};

use super::{
    super::json_rpc::RpcError, Asked, NO_TASK, NOT_CANCELABLE, UNSUPPORTED, card::HISTORY_SCOPE, stream::Talk,
};

/// So many tasks are listed unless somebody says otherwise, and at most.
const PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 100;
/// So many ids of tasks are read at once, where only a look at each shows which are wanted.
const LOOKED_AT: u32 = 1_000;

pub(super) async fn get(asked: &Asked<'_>) -> Result<Value, RpcError> {
    let telling = Telling { history_length: history_length(&asked.call.params)?, ..telling(asked)? };
    let found = named(asked).await?;
    Ok(found.task.render(telling))
}

pub(super) async fn cancel(asked: &Asked<'_>) -> Result<Value, RpcError> {
    let id = id_of(asked)?;
    let task = asked.engine.cancel_agent_task(asked.assistant.assistant_id, id).await.map_err(|error| match error {
        Error::NotFound(_) => no_task(id),
        Error::Conflict(why) => RpcError::new(NOT_CANCELABLE, why),
        other => other.into(),
    })?;
    Ok(task.render(Telling::all(asked.version)))
}

pub(super) async fn subscribe(asked: Asked<'_>) -> Result<Response, RpcError> {
    let FoundTask { task, run } = named(&asked).await?;
    if run.status.is_terminal() {
        if asked.version == Version::V1 && task.state.is_terminal() {
            return Err(RpcError::new(UNSUPPORTED, "The task has ended; ask for it with GetTask"));
        }
        return Ok(Talk::over(&asked, run, &task).told());
    }
    let heard = asked.client.headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(EventId::parse);
    let from_the_start = EventId::START.to_string();
    let modes = vec![StreamMode::MessagesTuple];
    let stream = asked.engine.join_stream(run.thread_id, run.run_id, Some(&from_the_start), modes).await?;
    Ok(Talk::new(&asked, run, stream, &task).behind(heard).told())
}

pub(super) async fn list(asked: &Asked<'_>) -> Result<Value, RpcError> {
    let params = &asked.call.params;
    let telling = Telling {
        history_length: history_length(params)?,
        artifacts: flag(params, "includeArtifacts")?,
        ..telling(asked)?
    };
    let window = Window { limit: page_size(params)?, offset: page_token(params)? };
    let (context, wanted) = (context_of(params)?, Wanted::of(params)?);
    let Page { tasks, total } = if wanted.is_some() {
        Page::of_wanted(asked, context, &wanted, window).await?
    } else {
        Page::of_all(asked, context, window).await?
    };
    let end = u64::from(window.offset) + u64::from(window.limit);
    let next = if total > end { end.to_string() } else { String::new() };
    let tasks: Vec<_> = tasks.into_iter().map(|task| task.render(telling)).collect();
    Ok(json!({ "pageSize": tasks.len(), "tasks": tasks, "totalSize": total, "nextPageToken": next }))
}

/// Some of the tasks that are listed, and how many there are in all.
struct Page {
    tasks: Vec<Task>,
    total: u64,
}

impl Page {
    async fn of_all(asked: &Asked<'_>, context: Option<ThreadId>, window: Window) -> Result<Self, RpcError> {
        let TaskPage { ids, total } = ids(asked, context, window).await?;
        let mut tasks = Vec::with_capacity(ids.len());
        for id in ids {
            tasks.push(found_task(asked, id).await?.task);
        }
        Ok(Self { tasks, total })
    }

    /// Those that stand as they should, which only shows when they are looked at: one after the other, since there may be
    /// any number of them, and each may be large.
    async fn of_wanted(
        asked: &Asked<'_>,
        context: Option<ThreadId>,
        wanted: &Wanted,
        window: Window,
    ) -> Result<Self, RpcError> {
        let (mut tasks, mut total, mut offset) = (Vec::new(), 0, 0);
        let in_window = u64::from(window.offset)..u64::from(window.offset) + u64::from(window.limit);
        loop {
            let all = ids(asked, context, Window { limit: LOOKED_AT, offset }).await?;
            offset += LOOKED_AT;
            for id in all.ids {
                let task = match found_task(asked, id).await {
                    Ok(FoundTask { task, .. }) if wanted.takes(&task) => task,
                    Ok(_) => continue,
                    // It was deleted meanwhile.
                    Err(error) if error.code == NO_TASK => continue,
                    Err(error) => return Err(error),
                };
                if in_window.contains(&total) {
                    tasks.push(task);
                }
                total += 1;
            }
            if all.total <= u64::from(offset) {
                return Ok(Self { tasks, total });
            }
        }
    }
}

/// The ids of an agent's tasks, the newest first.
async fn ids(asked: &Asked<'_>, context: Option<ThreadId>, window: Window) -> Result<TaskPage, RpcError> {
    let found = asked.engine.agent_tasks(asked.assistant.assistant_id, context, window).await;
    found.map_err(|error| match error {
        Error::Unsupported(_) => RpcError::new(UNSUPPORTED, error.to_string()),
        other => other.into(),
    })
}

/// What a listed task must be.
struct Wanted {
    state: Option<TaskState>,
    since: Option<Timestamp>,
}

impl Wanted {
    fn of(params: &Object) -> Result<Self, RpcError> {
        let text = |name: &str| match params.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() || text == "TASK_STATE_UNSPECIFIED" => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(RpcError::params(format!("{name} must be a string"))),
        };
        let state = text("status")?
            .map(|text| {
                TaskState::parse(&text).ok_or_else(|| RpcError::params(format!("status: '{text}' is no task state")))
            })
            .transpose()?;
        let since = text("statusTimestampAfter")?
            .map(|text| {
                text.parse().map_err(|_| RpcError::params(format!("statusTimestampAfter: '{text}' is no time")))
            })
            .transpose()?;
        Ok(Self { state, since })
    }

    fn is_some(&self) -> bool {
        self.state.is_some() || self.since.is_some()
    }

    fn takes(&self, task: &Task) -> bool {
        self.state.is_none_or(|state| task.state == state) && self.since.is_none_or(|since| task.at >= since)
    }
}

fn page_size(params: &Object) -> Result<u32, RpcError> {
    let size = match params.get("pageSize") {
        None | Some(Value::Null) => Some(PAGE),
        Some(size) => size.as_u64().and_then(|size| u32::try_from(size).ok()),
    };
    let size = size.filter(|size| (1..=LARGEST_PAGE).contains(size));
    size.ok_or_else(|| RpcError::params("pageSize must be an integer between 1 and 100."))
}

fn page_token(params: &Object) -> Result<u32, RpcError> {
    match params.get("pageToken") {
        None | Some(Value::Null) => Ok(0),
        Some(Value::String(token)) if token.is_empty() => Ok(0),
        Some(Value::String(token)) => token.parse().map_err(|_| RpcError::params("Invalid pageToken.")),
        Some(_) => Err(RpcError::params("Invalid pageToken.")),
    }
}

fn flag(params: &Object, name: &str) -> Result<bool, RpcError> {
    match params.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(RpcError::params(format!("{name} must be true or false"))),
    }
}

/// How many messages are to be told at most.
pub(super) fn history_length(params: &Object) -> Result<Option<usize>, RpcError> {
    match params.get("historyLength") {
        None | Some(Value::Null) => Ok(None),
        Some(length) => match length.as_u64().map(usize::try_from) {
            Some(Ok(length)) => Ok(Some(length)),
            _ => Err(RpcError::params("historyLength must be a non-negative integer")),
        },
    }
}

/// How much the client wants to be told, as far as its headers say.
pub(super) fn telling(asked: &Asked<'_>) -> Result<Telling, RpcError> {
    let own_history = match asked.client.headers.get(HISTORY_SCOPE).map(|scope| scope.to_str()) {
        None | Some(Ok("context")) => false,
        Some(Ok("task")) => true,
        Some(_) => return Err(RpcError::params("historyScope must be 'context' or 'task'")),
    };
    Ok(Telling { own_history, ..Telling::all(asked.version) })
}

/// The context that a message or a request names.
pub(super) fn context_of(given: &Object) -> Result<Option<ThreadId>, RpcError> {
    match given.get("contextId") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) if id.is_empty() => Ok(None),
        Some(Value::String(id)) => {
            id.parse().map(Some).map_err(|_| RpcError::params(format!("contextId: '{id}' is not a UUID")))
        }
        Some(_) => Err(RpcError::params("contextId must be a string")),
    }
}

pub(super) fn no_task(id: impl std::fmt::Display) -> RpcError {
    RpcError::new(NO_TASK, format!("Task not found: {id}"))
}

/// The task that a request is about.
fn id_of(asked: &Asked<'_>) -> Result<TaskId, RpcError> {
    let params = &asked.call.params;
    let id = task_in(params, "id")?;
    match context_of(params)? {
        Some(context) if context != id.thread_id => {
            Err(RpcError::new(NO_TASK, format!("Task not found: {id} in context '{context}'")))
        }
        _ => Ok(id),
    }
}

/// The id of a task that a request has under a name.
pub(super) fn task_in(params: &Object, name: &str) -> Result<TaskId, RpcError> {
    match params.get(name) {
        Some(Value::String(id)) if !id.is_empty() => id.parse().map_err(|_| no_task(id)),
        None | Some(Value::Null | Value::String(_)) => {
            Err(RpcError::params(format!("Missing required parameter: {name} (task_id)")))
        }
        Some(_) => Err(RpcError::params("Task id and contextId must be strings")),
    }
}

async fn named(asked: &Asked<'_>) -> Result<FoundTask, RpcError> {
    found_task(asked, id_of(asked)?).await
}

pub(super) async fn found_task(asked: &Asked<'_>, id: TaskId) -> Result<FoundTask, RpcError> {
    asked.engine.agent_task(asked.assistant.assistant_id, id).await.map_err(|error| match error {
        Error::NotFound(_) => no_task(id),
        other => other.into(),
    })
}
