//! The commands of event streaming, which come over HTTP or a WebSocket.

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use threadyard_core::{
    ids::ThreadId,
    json::{Object, RawJson, RawObject, raw},
    runs::MultitaskStrategy,
};
use threadyard_engine::{Answers, Engine, Error, StartRun};

use super::{error::ApiError, event_states, event_streaming::success, request_id::Configurable};

/// A command in its envelope.
pub(super) struct Command {
    pub(super) id: u64,
    pub(super) method: String,
    pub(super) params: RawObject,
}

impl Command {
    /// Reads the envelope. What is wrong with it is said to the id, if there is one.
    pub(super) fn read(body: &[u8]) -> Result<Self, (Option<u64>, String)> {
        let fields: RawObject =
            serde_json::from_slice(body).map_err(|why| (None, format!("a command must be a JSON object: {why}")))?;
        let id = fields.get("id").and_then(|id| id.get().parse().ok());
        let id = id.ok_or((None, "id: must be a whole number of zero or more".to_owned()))?;
        let text = |method: &RawJson| serde_json::from_str::<String>(method.get()).ok();
        let method = fields.get("method").and_then(text);
        let method = method.ok_or((Some(id), "method: must be the name of a command".to_owned()))?;
        let params = match fields.get("params").filter(|params| params.get() != "null") {
            Some(params) => serde_json::from_str(params.get()),
            None => Ok(RawObject::default()),
        };
        let params = params.map_err(|_| (Some(id), "params: must be an object".to_owned()))?;
        Ok(Self { id, method, params })
    }
}

/// Why a command did nothing, in the protocol's words.
pub(super) struct Refusal {
    code: &'static str,
    message: String,
    /// After how many seconds the same command may do what it is to.
    retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new("invalid_argument", message)
    }

    pub(super) fn unknown(message: String) -> Self {
        Self::new("unknown_error", message)
    }

    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// The answer to the command of this id.
    pub(super) fn answer(self, id: Option<u64>) -> Value {
        let mut answer = json!({ "type": "error", "id": id, "error": self.code, "message": self.message });
        if let Some(seconds) = self.retry_after {
            answer["retry_after"] = seconds.into();
        }
        answer
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let code = match error {
            Error::NotFound("interrupt") => "no_such_interrupt",
            Error::NotFound("run") => "no_such_run",
            Error::NotFound("checkpoint") => "no_such_checkpoint",
            Error::Forbidden(_) | Error::Denied { .. } => "permission_denied",
            _ => "unknown_error",
        };
        let error = ApiError(error);
        let (status, detail) = error.parts();
        Self { code, message: format!("{}: {detail}", status.as_u16()), retry_after: error.retry_after() }
    }
}

/// Does what a command asks for and answers it.
pub(super) async fn execute(
    engine: &Engine,
    thread: ThreadId,
    command: Command,
    Configurable(of_request): &Configurable,
) -> Value {
    let id = command.id;
    let outcome = match command.method.as_str() {
        "run.start" => run_start(engine, thread, &command.params, of_request).await,
        "input.respond" => input_respond(engine, thread, &command.params, of_request).await,
        "agent.getTree" => tree(engine, thread, &command.params).await,
        "state.get" => event_states::get(engine, thread, &command.params).await,
        "state.listCheckpoints" => event_states::list_checkpoints(engine, thread, &command.params).await,
        "state.fork" => event_states::fork(engine, thread, &command.params, of_request).await,
        "input.inject" => {
            let way = "a run that goes on takes nothing in; start the next one, and `multitaskStrategy` says what \
                becomes of this one";
            Err(Refusal::new("not_supported", way))
        }
        "subscription.subscribe" | "subscription.unsubscribe" | "subscription.reconnect" => {
            let way = "subscriptions are made on a WebSocket; over HTTP, POST what to read to stream/events";
            Err(Refusal::new("not_supported", way))
        }
        other => Err(Refusal::new("unknown_command", format!("there is no command `{other}`"))),
    };
    match outcome {
        Ok(result) => success(id, &result),
        Err(refusal) => refusal.answer(Some(id)),
    }
}

#[derive(Deserialize)]
struct RunStart {
    assistant_id: Option<String>,
    input: Option<RawJson>,
    config: Option<Object>,
    metadata: Option<Object>,
    /// The SDKs send both spellings.
    #[serde(rename = "multitaskStrategy")]
    older_strategy: Option<MultitaskStrategy>,
    multitask_strategy: Option<MultitaskStrategy>,
}

async fn run_start(
    engine: &Engine,
    thread: ThreadId,
    params: &RawObject,
    of_request: &Object,
) -> Result<Value, Refusal> {
    let params: RunStart = parsed(params)?;
    let assistant = params.assistant_id.ok_or_else(|| Refusal::invalid("assistant_id: is missing"))?;
    let start = StartRun {
        assistant,
        input: params.input,
        config: params.config.unwrap_or_default(),
        metadata: params.metadata.unwrap_or_default(),
        multitask_strategy: params.multitask_strategy.or(params.older_strategy).unwrap_or_default(),
        of_request: of_request.clone(),
    };
    let run_id = engine.start_run(thread, start).await?;
    Ok(json!({ "run_id": run_id }))
}

#[derive(Deserialize)]
struct Response {
    interrupt_id: String,
    response: RawJson,
}

#[derive(Deserialize)]
struct InputRespond {
    responses: Option<Vec<Response>>,
    interrupt_id: Option<String>,
    update: Option<RawJson>,
    goto: Option<RawJson>,
    config: Option<Object>,
    metadata: Option<Object>,
}

async fn input_respond(
    engine: &Engine,
    thread: ThreadId,
    params: &RawObject,
    of_request: &Object,
) -> Result<Value, Refusal> {
    let given: InputRespond = parsed(params)?;
    let responses = match (given.responses, given.interrupt_id) {
        (Some(several), None) if !several.is_empty() => several,
        (None, Some(interrupt_id)) => {
            // Null is an answer as well.
            let response = params.get("response").cloned().ok_or_else(|| Refusal::invalid("response: is missing"))?;
            vec![Response { interrupt_id, response }]
        }
        _ => return Err(Refusal::invalid("give either `interrupt_id` and `response`, or `responses`")),
    };
    let answers = Answers {
        responses: responses.into_iter().map(|one| (one.interrupt_id, one.response)).collect(),
        update: given.update,
        goto: given.goto,
        config: given.config.unwrap_or_default(),
        metadata: given.metadata.unwrap_or_default(),
        of_request: of_request.clone(),
    };
    engine.answer(thread, answers).await?;
    Ok(json!({}))
}

#[derive(Deserialize)]
struct GetTree {
    run_id: Option<String>,
}

async fn tree(engine: &Engine, thread: ThreadId, params: &RawObject) -> Result<Value, Refusal> {
    let GetTree { run_id } = parsed(params)?;
    let run_id = run_id.map(|id| id.parse().map_err(|_| Refusal::invalid(format!("run_id: `{id}` is not a UUID"))));
    let tree = engine.graph_tree(thread, run_id.transpose()?).await?;
    Ok(json!({ "tree": tree }))
}

pub(super) fn parsed<T: DeserializeOwned>(params: &RawObject) -> Result<T, Refusal> {
    serde_json::from_str(raw(params).get()).map_err(|why| Refusal::invalid(format!("params: {why}")))
}
