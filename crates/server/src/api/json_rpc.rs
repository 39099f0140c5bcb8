//! JSON-RPC 2.0, as the protocols between agents speak it: what is asked, and how it is answered.

use serde::Serialize;
use serde_json::{Value, json};
use threadyard_core::json::Object;
use threadyard_engine::Error;

use super::error::ApiError;

/// What is sent is not JSON.
pub(super) const NO_JSON: i32 = -32700;
/// It is JSON, but no message.
pub(super) const NO_MESSAGE: i32 = -32600;
/// Nobody knows the method.
pub(super) const NO_METHOD: i32 = -32601;
/// What a method was given makes no sense.
pub(super) const BAD_PARAMS: i32 = -32602;
/// It is not the caller's fault.
pub(super) const FAILED: i32 = -32603;
/// The server does not do it, for a reason that HTTP has a name for.
pub(super) const REFUSED: i32 = -32000;

/// A method that somebody calls, and waits for its answer.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: Value,
    pub(super) method: String,
    pub(super) params: Object,
}

/// What may be sent.
#[derive(Debug)]
pub(super) enum Message {
    Call(Call),
    /// Nobody waits for an answer to it.
    Notice,
    /// An answer to what nobody here asked.
    Answer,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RpcError {
    pub(super) code: i32,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Box<Refusal>>,
}

/// A refusal in the words of HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// After how many seconds the same call may succeed, if time alone mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_after: Option<u64>,
}

impl RpcError {
    pub(super) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub(super) fn params(message: impl Into<String>) -> Self {
        Self::new(BAD_PARAMS, message)
    }

    pub(super) fn unknown_method(method: &str) -> Self {
        Self::new(NO_METHOD, format!("Method not found: {method}"))
    }
}

impl From<Error> for RpcError {
    fn from(error: Error) -> Self {
        match error {
            Error::Internal(why) => {
                tracing::error!(why, "a request failed");
                Self::new(FAILED, "internal server error")
            }
            Error::BrokenGraph { .. } | Error::Raised(_) => Self::new(FAILED, error.to_string()),
            Error::TooMany { .. }
            | Error::Unavailable(_)
            | Error::Forbidden(_)
            | Error::Denied { .. }
            | Error::Conflict(_) => {
                let error = ApiError(error);
                let (status, told) = error.parts();
                let data = Refusal { status: status.as_u16(), retry_after: error.retry_after() };
                Self { data: Some(Box::new(data)), ..Self::new(REFUSED, told) }
            }
            other => Self::params(other.to_string()),
        }
    }
}

/// What was sent that is no message, with the id that its answer carries.
#[derive(Debug, PartialEq)]
pub(super) struct BadMessage {
    pub(super) id: Value,
    pub(super) error: RpcError,
}

/// Reads a message.
pub(super) fn read(body: &[u8]) -> Result<Message, BadMessage> {
    let bad = |id: Value, code, why: &str| BadMessage { id, error: RpcError::new(code, why) };
    let sent: Value = serde_json::from_slice(body).map_err(|_| bad(Value::Null, NO_JSON, "Invalid JSON"))?;
    let Value::Object(mut sent) = sent else {
        return Err(bad(Value::Null, NO_MESSAGE, "Invalid message format: a message is one JSON object"));
    };
    let id = sent.remove("id").unwrap_or_default();
    if !matches!(id, Value::Null | Value::String(_) | Value::Number(_)) {
        return Err(bad(Value::Null, NO_MESSAGE, "Invalid JSON-RPC message: the id must be a string or a number"));
    }
    if sent.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(bad(id, NO_MESSAGE, "Invalid JSON-RPC message. Missing or invalid jsonrpc version."));
    }
    let method = match sent.remove("method") {
        Some(Value::String(method)) => method,
        Some(_) => return Err(bad(id, NO_MESSAGE, "Invalid JSON-RPC message: the method must be a string")),
        None if sent.contains_key("result") || sent.contains_key("error") => return Ok(Message::Answer),
        None => return Err(bad(id, NO_MESSAGE, "Invalid JSON-RPC message: it has no method")),
    };
    if id.is_null() {
        return Ok(Message::Notice);
    }
    match sent.remove("params").unwrap_or_default() {
        Value::Object(params) => Ok(Message::Call(Call { id, method, params })),
        Value::Null => Ok(Message::Call(Call { id, method, params: Object::new() })),
        _ => Err(bad(id, BAD_PARAMS, "Invalid params: must be an object")),
    }
}

/// The answer to a call.
pub(super) fn answer(id: &Value, result: Result<Value, RpcError>) -> Value {
    match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_notices_and_answers_are_told_apart() {
        let call = |text: &str| match read(text.as_bytes()) {
            Ok(Message::Call(call)) => Some((call.id, call.method, call.params.len())),
            _ => None,
        };
        let base = r#"{"jsonrpc":"2.0","#;
        assert_eq!(call(&format!(r#"{base}"id":1,"method":"m"}}"#)), Some((json!(1), "m".into(), 0)));
        assert_eq!(
            call(&format!(r#"{base}"id":"a","method":"m","params":{{"x":1}}}}"#)),
            Some((json!("a"), "m".into(), 1))
        );
        for notice in [r#""method":"m"}"#, r#""method":"m","id":null}"#] {
            assert!(matches!(read(format!("{base}{notice}").as_bytes()), Ok(Message::Notice)), "{notice}");
        }
        for answer in [r#""id":1,"result":{}}"#, r#""id":1,"error":{"code":1}}"#] {
            assert!(matches!(read(format!("{base}{answer}").as_bytes()), Ok(Message::Answer)), "{answer}");
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_id_it_has() {
        for (text, code, id) in [
            ("nope", NO_JSON, json!(null)),
            ("", NO_JSON, json!(null)),
            ("\"\\ud800\"", NO_JSON, json!(null)),
            ("[]", NO_MESSAGE, json!(null)),
            ("null", NO_MESSAGE, json!(null)),
            (r#"{"id":1,"method":"m"}"#, NO_MESSAGE, json!(1)),
            (r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, NO_MESSAGE, json!(1)),
            (r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, NO_MESSAGE, json!(null)),
            (r#"{"jsonrpc":"2.0","id":true,"method":"m"}"#, NO_MESSAGE, json!(null)),
            (r#"{"jsonrpc":"2.0","id":1,"method":5}"#, NO_MESSAGE, json!(1)),
            (r#"{"jsonrpc":"2.0","id":1}"#, NO_MESSAGE, json!(1)),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}"#, BAD_PARAMS, json!(1)),
        ] {
            let bad = read(text.as_bytes()).unwrap_err();
            assert_eq!((bad.error.code, bad.id), (code, id), "{text}");
        }
    }
}
