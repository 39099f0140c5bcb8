//! `/mcp`: assistants as tools, over the streamable HTTP transport of the Model Context Protocol, without sessions.

mod progress;
mod tools;
mod versions;

use axum::{
    Extension, Json,
    body::Bytes,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use threadyard_engine::Engine;

use super::{
    access::NoForeignPage,
    caller::Caller,
    edge::Mount,
    error::{no_message, not_found},
    json_rpc::{self, BAD_PARAMS, Call, Message, RpcError},
    request_id::Configurable,
};
use versions::{Manner, WITH_HANDSHAKE};

const EVENT_STREAM: &str = "text/event-stream";

pub(super) async fn post(
    Caller(engine): Caller,
    NoForeignPage: NoForeignPage,
    of_request: Configurable,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let streams = accepts(&headers, EVENT_STREAM);
    if !streams && !accepts(&headers, "application/json") {
        return no_message("Accept header must include application/json or text/event-stream");
    }
    let call = match json_rpc::read(&body) {
        Ok(Message::Call(call)) => call,
        // Ids count for each client by itself, so that without sessions nobody knows whose call a notice of cancellation is
        // about. Calls without a handshake are cancelled by the end of their connections.
        Ok(Message::Notice | Message::Answer) => return StatusCode::ACCEPTED.into_response(),
        Err(bad) if bad.error.code == BAD_PARAMS => {
            return Json(json_rpc::answer(&bad.id, Err(bad.error))).into_response();
        }
        Err(bad) => return no_message(&bad.error.message),
    };
    match Manner::of(&headers, &call) {
        Ok(manner) => answer(engine, call, &of_request, (manner, streams)).await,
        Err(rejected) => rejected.response(&call.id),
    }
}

/// There are no sessions to end.
pub(super) async fn delete() -> Response {
    not_found()
}

/// Upstream: the path with a slash leads to the one without.
pub(super) async fn without_slash(Extension(Mount(prefix)): Extension<Mount>) -> Response {
    let path = format!("{prefix}/mcp");
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, path)]).into_response()
}

fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|one| {
        let media = one.split(';').next().unwrap_or_default();
        media.trim().eq_ignore_ascii_case(kind)
    })
}

async fn answer(engine: Engine, call: Call, of_request: &Configurable, (manner, streams): (Manner, bool)) -> Response {
    let result = match (call.method.as_str(), manner) {
        ("initialize", Manner::Shaken) => Ok(hello(call.params.get("protocolVersion"))),
        ("ping", Manner::Shaken) => Ok(json!({})),
        ("server/discover", Manner::ByItself) => Ok(manner.discovered()),
        ("tools/list", _) => tools::list(&engine, call.params.get("cursor")).await.map(|listed| manner.unkept(listed)),
        ("tools/call", _) => match tools::call(engine, &call, of_request, (manner, streams)).await {
            Ok(answer) => return answer,
            Err(error) => Err(error),
        },
        (unknown, _) => Err(RpcError::unknown_method(unknown)),
    };
    manner.response(&call.id, result)
}

fn hello(wanted: Option<&Value>) -> Value {
    let wanted = wanted.and_then(Value::as_str);
    let version = WITH_HANDSHAKE.into_iter().find(|version| wanted == Some(version)).unwrap_or(WITH_HANDSHAKE[0]);
    json!({
        "protocolVersion": version,
        "capabilities": { "tools": { "listChanged": false } },
        "serverInfo": versions::server(),
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn media_types_are_found_among_others() {
        for (accept, found) in [
            ("application/json", true),
            ("text/plain, Application/JSON;q=0.9", true),
            ("text/plain", false),
            ("application/jsonl", false),
            ("*/*", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(accepts(&headers, "application/json"), found, "{accept}");
        }
    }
}
