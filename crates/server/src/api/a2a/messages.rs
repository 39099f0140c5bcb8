//! Messages to an agent: each begins a task, or answers what a task waits for.

use axum::{body::Bytes, http::HeaderMap};
use serde_json::{Value, json};
use threadyard_core::{
    agent_parts::{self, Part, Role},
    agent_task_json::Telling,
    agent_tasks::{BEGUN_BY, GOES_ON_WITH, Task, TaskId, TaskState},
    ids::ThreadId,
    json::Object,
};
use threadyard_engine::{Error, PushTarget, StartedRun, ThreadChoice};

use super::{
    super::{
        json_rpc::{self, RpcError},
        runs::fields,
        sse::{self, Watchdog},
    },
    Answered, Asked, BAD_CONTENT, NO_PUSH, UNSUPPORTED, card, push_configs,
    stream::Talk,
    tasks::{context_of, found_task, history_length, no_task, telling},
};

/// A message that came, with how it is to be answered.
struct Incoming {
    message: agent_parts::Message,
    context: Option<ThreadId>,
    task: Option<TaskId>,
    metadata: Object,
    blocks: bool,
    history_length: Option<usize>,
    push: Option<PushTarget>,
}

pub(super) async fn send(asked: Asked<'_>) -> Result<Answered, RpcError> {
    let incoming = incoming(&asked.call.params, asked.version)?;
    let telling = Telling { history_length: incoming.history_length, ..telling(&asked)? };
    let blocks = incoming.blocks;
    let started = begin(&asked, incoming, "values").await?;
    let (engine, assistant, id) = (asked.engine.clone(), asked.assistant.assistant_id, asked.call.id.clone());
    let StartedRun { run, stream } = started;
    let shown = move |task: &Task| match telling.version {
        agent_parts::Version::V03 => task.render(telling),
        agent_parts::Version::V1 => json!({ "task": task.render(telling) }),
    };
    if !blocks {
        return Ok(Answered::Result(shown(&Task::open(&run))));
    }
    // A client that leaves can ask for the task later.
    let watchdog = Watchdog::new(engine.clone(), run.thread_id, run.run_id, false);
    let answer = async move {
        stream.closing().await;
        let task = engine.agent_task(assistant, TaskId::of(&run)).await;
        let result = task.map(|found| shown(&found.task)).map_err(RpcError::from);
        Bytes::from(json_rpc::answer(&id, result).to_string())
    };
    Ok(Answered::Response(sse::kept_alive(answer, watchdog, HeaderMap::new())))
}

pub(super) async fn stream(asked: Asked<'_>) -> Result<Answered, RpcError> {
    let incoming = incoming(&asked.call.params, asked.version)?;
    let started = begin(&asked, incoming, "messages-tuple").await?;
    let task = Task::open(&started.run);
    Ok(Answered::Response(Talk::new(&asked, started.run, started.stream, &task).told()))
}

fn incoming(params: &Object, version: agent_parts::Version) -> Result<Incoming, RpcError> {
    let Some(Value::Object(given)) = params.get("message").filter(|given| **given != json!({})) else {
        return Err(RpcError::params("Missing or invalid 'message' in params"));
    };
    let text = |name: &str| match given.get(name).and_then(Value::as_str) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(RpcError::params(format!("Missing required '{name}' in message"))),
    };
    let (id, role) = (text("messageId")?, text("role")?);
    let role = Role::parse(&role).ok_or_else(|| RpcError::params(format!("role: '{role}' must be user or agent")))?;
    let parts = match given.get("parts") {
        Some(Value::Array(parts)) if parts.is_empty() => {
            return Err(RpcError::params("Message must contain at least one part"));
        }
        Some(Value::Array(parts)) => parts.iter().map(Part::read).collect::<Result<Vec<_>, _>>(),
        _ => return Err(RpcError::params("Invalid params: 'parts' must be an array")),
    };
    let message = agent_parts::Message { id, role, parts: parts.map_err(|why| RpcError::new(BAD_CONTENT, why))? };
    let object = |name: &str| match params.get(name) {
        None | Some(Value::Null) => Ok(Object::new()),
        Some(Value::Object(object)) => Ok(object.clone()),
        Some(_) => Err(RpcError::params(format!("Invalid params: '{name}' must be an object"))),
    };
    let configuration = object("configuration")?;
    Ok(Incoming {
        message,
        context: context_of(given)?,
        task: match given.get("taskId") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) if id.is_empty() => None,
            Some(Value::String(id)) => Some(id.parse().map_err(|_| no_task(id))?),
            Some(_) => return Err(RpcError::params("taskId must be a string")),
        },
        metadata: object("metadata")?,
        blocks: blocks(&configuration)?,
        history_length: history_length(&configuration)?,
        push: push_configs::with_message(&configuration, version)?,
    })
}

/// Whether the answer is to wait for the end of the task, as it does unless somebody says otherwise.
fn blocks(configuration: &Object) -> Result<bool, RpcError> {
    let flag = |name: &str| match configuration.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(RpcError::params(format!("configuration.{name} must be true or false"))),
    };
    Ok(flag("blocking")?.unwrap_or(true) && !flag("returnImmediately")?.unwrap_or(false))
}

/// Begins a task, or goes on with the one that waits.
async fn begin(asked: &Asked<'_>, incoming: Incoming, mode: &str) -> Result<StartedRun, RpcError> {
    let mut run = Object::from_iter([
        ("assistant_id".to_owned(), json!(asked.assistant.assistant_id)),
        ("stream_mode".to_owned(), json!([mode])),
        ("stream_subgraphs".to_owned(), json!(true)),
        // Who loses the connection to a stream can come back to it.
        ("stream_resumable".to_owned(), json!(mode != "values")),
    ]);
    if let Some(target) = &incoming.push {
        asked.engine.check_push_target(target).map_err(|error| match error {
            Error::Conflict(why) => RpcError::new(NO_PUSH, why),
            other => other.into(),
        })?;
    }
    let mut metadata = incoming.metadata;
    metadata.shift_remove(GOES_ON_WITH);
    let choice = if let Some(id) = incoming.task {
        let found = found_task(asked, id).await?;
        if incoming.context.is_some_and(|context| context != id.thread_id) {
            return Err(RpcError::params(format!(
                "Task {id} is not in context '{}'",
                incoming.context.unwrap_or(id.thread_id)
            )));
        }
        run.insert("command".into(), json!({ "resume": answer(&found.task, &incoming.message)? }));
        run.insert("multitask_strategy".into(), "reject".into());
        metadata.insert(GOES_ON_WITH.into(), id.to_string().into());
        let begun_by = found.run.metadata.get(BEGUN_BY).cloned();
        metadata.insert(BEGUN_BY.into(), begun_by.unwrap_or_else(|| incoming.message.id.clone().into()));
        ThreadChoice::Existing(id.thread_id, false)
    } else {
        run.insert("input".into(), input(asked, &incoming.message).await?);
        metadata.insert(BEGUN_BY.into(), incoming.message.id.clone().into());
        incoming.context.map_or(ThreadChoice::New(false), |context| ThreadChoice::Existing(context, true))
    };
    run.insert("metadata".into(), metadata.into());
    let mut request = fields(run.into(), &asked.client.of_request).request()?;
    request.push_target = incoming.push;
    asked.engine.create_run(request, choice).await.map_err(|error| match error {
        Error::Conflict(_) => RpcError::new(UNSUPPORTED, "The task is being answered already"),
        other => other.into(),
    })
}

/// What a message puts into the graph: words and files as a message, data into the channels that it names.
async fn input(asked: &Asked<'_>, message: &agent_parts::Message) -> Result<Value, RpcError> {
    let mut input = data(message)?;
    if !message.parts.iter().all(|part| matches!(part, Part::Data(_))) {
        let takes = card::fields(&card::input_schema(asked.engine, &asked.assistant).await?);
        if !takes.iter().any(|name| name == "messages") {
            return Err(RpcError::params(format!(
                "Assistant '{}' (graph '{}') does not support A2A conversational messages. Graph input schema must \
                 include a 'messages' field to accept text or file parts. Available input fields: {takes:?}",
                asked.assistant.assistant_id, asked.assistant.graph_id
            )));
        }
        match input.entry("messages").or_insert_with(|| json!([])) {
            Value::Array(messages) => messages.push(message.for_state()),
            _ => return Err(RpcError::params("a data part's 'messages' must be an array beside other parts")),
        }
    }
    Ok(input.into())
}

/// The data parts of a message, the later over the earlier.
fn data(message: &agent_parts::Message) -> Result<Object, RpcError> {
    let mut all = Object::new();
    for part in &message.parts {
        match part {
            Part::Data(Value::Object(data)) => all.extend(data.clone()),
            Part::Data(_) => {
                return Err(RpcError::new(BAD_CONTENT, "DataPart must contain a JSON object in the 'data' field"));
            }
            Part::Text(_) | Part::File(_) => {}
        }
    }
    Ok(all)
}

/// What a message answers to the question that a task waits with.
fn answer(task: &Task, message: &agent_parts::Message) -> Result<Value, RpcError> {
    if task.state.is_terminal() {
        return Err(RpcError::new(UNSUPPORTED, "A terminal task cannot accept another message"));
    }
    if task.state != TaskState::InputRequired {
        return Err(RpcError::new(UNSUPPORTED, "The task is still working; send it a message when it asks for one"));
    }
    if task.interrupts.is_empty() {
        return Err(RpcError::new(UNSUPPORTED, "The task pauses without a question; its thread can be run on"));
    }
    let texts: Vec<_> = message.parts.iter().filter_map(Part::text).collect();
    let only_words = texts.len() == message.parts.len();
    let only_data = message.parts.iter().all(|part| matches!(part, Part::Data(_)));
    let data = data(message)?;
    match &task.interrupts[..] {
        [_] if only_words => Ok(texts.join("\n").into()),
        [_] if only_data => Ok(data.into()),
        [_] => Err(RpcError::params("An answer to a question is either text or data")),
        several if only_data && several.iter().all(|asked| data.contains_key(&asked.id)) => Ok(data.into()),
        _ => {
            Err(RpcError::params("Several questions wait: send one data part that has an answer under the id of each"))
        }
    }
}
