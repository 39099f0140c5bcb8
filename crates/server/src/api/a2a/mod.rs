//! `/a2a/{assistant_id}`: an assistant as an agent that other agents talk to, in versions 0.3 and 1.0 of A2A.

mod card;
mod messages;
mod push_configs;
mod stream;
mod tasks;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequestParts, Path, Query},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;
use threadyard_core::{agent_parts::Version, assistants::Assistant};
use threadyard_engine::{Engine, Error};

use super::{
    caller::Caller,
    custom_app::Peer,
    edge::Mount,
    error::{ApiError, answered_call, no_message, refused_call},
    json_rpc::{self, Call, Message, RpcError},
    request_id::Configurable,
};

/// The task does not exist.
const NO_TASK: i32 = -32001;
/// The task has ended.
const NOT_CANCELABLE: i32 = -32002;
/// Nobody is notified of tasks here.
const NO_PUSH: i32 = -32003;
/// The task can't do that now.
const UNSUPPORTED: i32 = -32004;
/// A part of a message is of a kind that agents here don't take.
const BAD_CONTENT: i32 = -32005;

/// A call of another agent.
struct Asked<'a> {
    engine: &'a Engine,
    assistant: Assistant,
    version: Version,
    client: &'a Client,
    call: &'a Call,
}

/// What a method answers: a result, or a stream or something that takes its time.
enum Answered {
    Result(Value),
    Response(Response),
}

pub(super) async fn post(
    Caller(engine): Caller,
    Path(assistant): Path<String>,
    client: Client,
    body: Bytes,
) -> Response {
    let call = match json_rpc::read(&body) {
        Ok(Message::Call(call)) => call,
        Ok(Message::Answer) => return StatusCode::ACCEPTED.into_response(),
        Ok(Message::Notice) => {
            let error = RpcError::new(json_rpc::NO_MESSAGE, "Invalid message format: a request must have an id");
            return Json(json_rpc::answer(&Value::Null, Err(error))).into_response();
        }
        Err(bad) => return Json(json_rpc::answer(&bad.id, Err(bad.error))).into_response(),
    };
    let Some((method, version)) = Method::of(&call.method) else {
        return Json(json_rpc::answer(&call.id, Err(RpcError::unknown_method(&call.method)))).into_response();
    };
    let wanted = method.media_type();
    if !accepts(&client.headers, wanted) {
        return no_message(&format!("Accept header must include {wanted}"));
    }
    let answered = match found(&engine, &assistant).await {
        Ok(assistant) => {
            method.answer(Asked { engine: &engine, assistant, version, client: &client, call: &call }).await
        }
        Err(error) => Err(error),
    };
    match answered {
        Ok(Answered::Response(response)) => response,
        Ok(Answered::Result(result)) => answered_call(&call.id, Ok(result)),
        Err(error) => answered_call(&call.id, Err(error)),
    }
}

/// What can be asked of an agent.
#[derive(Clone, Copy)]
enum Method {
    Send,
    Stream,
    Get,
    List,
    Cancel,
    Subscribe,
    Card,
    SetPush,
    GetPush,
    ListPush,
    DeletePush,
}

impl Method {
    fn of(name: &str) -> Option<(Self, Version)> {
        use Version::{V1, V03};
        Some(match name {
            "message/send" => (Self::Send, V03),
            "SendMessage" => (Self::Send, V1),
            "message/stream" => (Self::Stream, V03),
            "SendStreamingMessage" => (Self::Stream, V1),
            "tasks/get" => (Self::Get, V03),
            "GetTask" => (Self::Get, V1),
            "tasks/list" => (Self::List, V03),
            "ListTasks" => (Self::List, V1),
            "tasks/cancel" => (Self::Cancel, V03),
            "CancelTask" => (Self::Cancel, V1),
            "tasks/resubscribe" => (Self::Subscribe, V03),
            "SubscribeToTask" => (Self::Subscribe, V1),
            "agent/getAuthenticatedExtendedCard" => (Self::Card, V03),
            "GetExtendedAgentCard" => (Self::Card, V1),
            "tasks/pushNotificationConfig/set" => (Self::SetPush, V03),
            "CreateTaskPushNotificationConfig" => (Self::SetPush, V1),
            "tasks/pushNotificationConfig/get" => (Self::GetPush, V03),
            "GetTaskPushNotificationConfig" => (Self::GetPush, V1),
            "tasks/pushNotificationConfig/list" => (Self::ListPush, V03),
            "ListTaskPushNotificationConfigs" => (Self::ListPush, V1),
            "tasks/pushNotificationConfig/delete" => (Self::DeletePush, V03),
            "DeleteTaskPushNotificationConfig" => (Self::DeletePush, V1),
            _ => return None,
        })
    }

    /// The kind of answer that a client has to accept.
    fn media_type(self) -> &'static str {
        match self {
            Self::Stream | Self::Subscribe => "text/event-stream",
            _ => "application/json",
        }
    }

    async fn answer(self, asked: Asked<'_>) -> Result<Answered, RpcError> {
        match self {
            Self::Send => messages::send(asked).await,
            Self::Stream => messages::stream(asked).await,
            Self::Get => tasks::get(&asked).await.map(Answered::Result),
            Self::List => tasks::list(&asked).await.map(Answered::Result),
            Self::Cancel => tasks::cancel(&asked).await.map(Answered::Result),
            Self::Subscribe => tasks::subscribe(asked).await.map(Answered::Response),
            Self::Card => card::of(asked.engine, &asked.assistant, asked.client).await.map(Answered::Result),
            Self::SetPush => push_configs::set(&asked).await.map(Answered::Result),
            Self::GetPush => push_configs::get(&asked).await.map(Answered::Result),
            Self::ListPush => push_configs::list(&asked).await.map(Answered::Result),
            Self::DeletePush => push_configs::delete(&asked).await.map(Answered::Result),
        }
    }
}

async fn found(engine: &Engine, assistant: &str) -> Result<Assistant, RpcError> {
    let id = assistant.parse().map_err(|_| RpcError::params("Invalid assistant ID: must be a UUID"))?;
    engine.assistant(id).await.map_err(|error| match error {
        Error::NotFound(_) => RpcError::params(format!("Assistant '{assistant}' not found")),
        other => other.into(),
    })
}

fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let group = wanted.split('/').next().unwrap_or_default();
    accepted.flat_map(|value| value.split(',')).any(|one| {
        let media = one.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        media == wanted || media == "*/*" || media.strip_suffix("/*") == Some(group)
    })
}

/// What a request says of its client.
pub(super) struct Client {
    headers: HeaderMap,
    /// Where it found this server.
    place: String,
    /// What its runs are told of the request.
    of_request: Configurable,
}

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let prefix = parts.extensions.get::<Mount>().map_or("", |Mount(prefix)| prefix);
        let scheme = if parts.extensions.get::<Peer>().is_some_and(|peer| peer.secure) { "https" } else { "http" };
        let place = format!("{scheme}://{host}{prefix}");
        let headers = parts.headers.clone();
        Ok(Self { headers, place, of_request: Configurable::from_request_parts(parts, state).await? })
    }
}

#[derive(Deserialize)]
pub(super) struct Which {
    assistant_id: Option<String>,
}

/// The card of the agent that the query names.
pub(super) async fn well_known(Caller(engine): Caller, Query(which): Query<Which>, client: Client) -> Response {
    match which.assistant_id {
        Some(assistant) => shown(&engine, &assistant, &client).await,
        None => refused_call(&RpcError::params("Missing required query parameter: assistant_id")),
    }
}

/// The card of the agent that the path names.
pub(super) async fn card(Caller(engine): Caller, Path(assistant): Path<String>, client: Client) -> Response {
    shown(&engine, &assistant, &client).await
}

async fn shown(engine: &Engine, assistant: &str, client: &Client) -> Response {
    let card = match found(engine, assistant).await {
        Ok(assistant) => card::of(engine, &assistant, client).await,
        Err(error) => Err(error),
    };
    card.map_or_else(|error| refused_call(&error), |card| Json(card).into_response())
}
