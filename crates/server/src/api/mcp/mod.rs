//! `/mcp`: assistants as tools, over the streamable HTTP transport of the Model Context Protocol, without sessions.

mod progress;
mod tools;

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
    error::{answered_call, no_message, not_found},
    json_rpc::{self, BAD_PARAMS, Call, Message, RpcError},
    request_id::Configurable,
};

/// The versions of the protocol that differ in nothing that is spoken here, the newest first.
const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
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
        // Without sessions nobody knows whose request a notice of cancellation is about.
        Ok(Message::Notice | Message::Answer) => return StatusCode::ACCEPTED.into_response(),
        Err(bad) if bad.error.code == BAD_PARAMS => {
            return Json(json_rpc::answer(&bad.id, Err(bad.error))).into_response();
        }
        Err(bad) => return no_message(&bad.error.message),
    };
    answer(engine, call, &of_request, streams).await
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

async fn answer(engine: Engine, call: Call, of_request: &Configurable, streams: bool) -> Response {
    let result = match call.method.as_str() {
        "initialize" => Ok(hello(call.params.get("protocolVersion"))),
        "ping" => Ok(json!({})),
        "tools/list" => tools::list(&engine, call.params.get("cursor")).await,
        "tools/call" => match tools::call(engine, &call, of_request, streams).await {
            Ok(answer) => return answer,
            Err(error) => Err(error),
        },
        unknown => Err(RpcError::unknown_method(unknown)),
    };
    answered_call(&call.id, result)
}

fn hello(wanted: Option<&Value>) -> Value {
    let wanted = wanted.and_then(Value::as_str);
    let version = VERSIONS.into_iter().find(|version| wanted == Some(version)).unwrap_or(VERSIONS[0]);
    json!({
        "protocolVersion": version,
        "capabilities": { "tools": { "listChanged": false } },
        "serverInfo": { "name": "Threadyard", "version": env!("CARGO_PKG_VERSION") },
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
