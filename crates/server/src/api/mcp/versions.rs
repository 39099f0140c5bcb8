//! Versions of the protocol: those that begin with a handshake, and the one whose calls each say what a session would know.

use axum::{
    Json,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use super::super::{
    error::answered_call,
    json_rpc::{self, BAD_PARAMS, Call, NO_METHOD, RpcError},
};

/// The versions that begin with a handshake and differ in nothing that is spoken here, the newest first.
pub(super) const WITH_HANDSHAKE: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The version without one.
pub(super) const BY_ITSELF: &str = "2026-07-28";

/// What the headers of a call say is not what the call says.
const OTHER_HEADERS: i32 = -32020;
/// The version is none of those that are spoken.
const OTHER_VERSION: i32 = -32022;
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// How the sender of a call is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// As after a handshake.
    Shaken,
    /// The call stands by itself. Who ends its connection cancels it.
    ByItself,
}

/// Why a call that stands by itself is not one.
#[derive(Debug, PartialEq)]
pub(super) struct Rejected {
    code: i32,
    why: String,
    data: Option<Value>,
}

impl Rejected {
    fn new(code: i32, why: impl Into<String>) -> Self {
        Self { code, why: why.into(), data: None }
    }

    pub(super) fn response(self, id: &Value) -> Response {
        let mut error = json!({ "code": self.code, "message": self.why });
        if let Some(data) = self.data {
            error["data"] = data;
        }
        (StatusCode::BAD_REQUEST, Json(json!({ "jsonrpc": "2.0", "id": id, "error": error }))).into_response()
    }
}

impl Manner {
    /// The manner in which a call is made.
    pub(super) fn of(headers: &HeaderMap, call: &Call) -> Result<Self, Rejected> {
        let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let meta = call.params.get("_meta");
        let version = meta.and_then(|meta| meta.get(VERSION));
        let of_header = said("mcp-protocol-version");
        let shaken = match of_header {
            Some(header) => WITH_HANDSHAKE.contains(&header) || (header != BY_ITSELF && version.is_none()),
            None => version.is_none(),
        };
        if shaken {
            return Ok(Self::Shaken);
        }
        let version = version.and_then(Value::as_str);
        let (Some(version), Some(_)) = (version, meta.and_then(|meta| meta.get(CAPABILITIES))) else {
            return Err(Rejected::new(BAD_PARAMS, format!("params._meta must have `{VERSION}` and `{CAPABILITIES}`")));
        };
        let name = call.params.get("name").and_then(Value::as_str).filter(|_| call.method == "tools/call");
        for (header, is_same) in [
            ("mcp-protocol-version", of_header == Some(version)),
            ("mcp-method", said("mcp-method") == Some(&call.method)),
            ("mcp-name", name.is_none_or(|name| said("mcp-name").is_some_and(|header| names(header, name)))),
        ] {
            if !is_same {
                return Err(Rejected::new(OTHER_HEADERS, format!("the header `{header}` must say what the call says")));
            }
        }
        if version != BY_ITSELF {
            let data = Some(json!({ "supported": [BY_ITSELF], "requested": version }));
            return Err(Rejected { data, ..Rejected::new(OTHER_VERSION, "Unsupported protocol version") });
        }
        Ok(Self::ByItself)
    }

    /// What this server can do, for who asks without a handshake.
    pub(super) fn discovered(self) -> Value {
        self.unkept(json!({ "supportedVersions": [BY_ITSELF], "capabilities": { "tools": {} } }))
    }

    /// A result that is to be asked for anew each time, since others may change it at any moment.
    pub(super) fn unkept(self, mut result: Value) -> Value {
        if self == Self::ByItself {
            result["ttlMs"] = 0.into();
            result["cacheScope"] = "private".into();
        }
        result
    }

    /// The answer to a call.
    pub(super) fn answer(self, id: &Value, result: Result<Value, RpcError>) -> Value {
        json_rpc::answer(id, result.map(|result| self.complete(result)))
    }

    /// The same, where nothing of it has been said.
    pub(super) fn response(self, id: &Value, result: Result<Value, RpcError>) -> Response {
        let status = match &result {
            Err(error) if self == Self::ByItself && error.code == BAD_PARAMS => Some(StatusCode::BAD_REQUEST),
            Err(error) if self == Self::ByItself && error.code == NO_METHOD => Some(StatusCode::NOT_FOUND),
            _ => None,
        };
        let answer = answered_call(id, result.map(|result| self.complete(result)));
        match status {
            Some(status) => (status, answer).into_response(),
            None => answer,
        }
    }

    fn complete(self, mut result: Value) -> Value {
        if self == Self::ByItself {
            result["resultType"] = "complete".into();
            result["_meta"] = json!({ SERVER: server() });
        }
        result
    }
}

/// What this server is called.
pub(super) fn server() -> Value {
    json!({ "name": "Threadyard", "version": env!("CARGO_PKG_VERSION") })
}

/// Whether a header names this, which it may say in base64.
fn names(header: &str, name: &str) -> bool {
    header == name || header == format!("=?base64?{}?=", BASE64.encode(name))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn manner(headers: &[(&'static str, &'static str)], method: &str, params: Value) -> Result<Manner, i32> {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let Value::Object(params) = params else { unreachable!("params are objects") };
        let call = Call { id: 1.into(), method: method.into(), params };
        Manner::of(&headers.collect(), &call).map_err(|rejected| rejected.code)
    }

    #[test]
    fn calls_without_a_handshake_are_told_by_their_header() {
        let meta = |version: Value| json!({ "_meta": { VERSION: version, CAPABILITIES: {} } });
        let (version, method) = (("mcp-protocol-version", BY_ITSELF), ("mcp-method", "tools/list"));
        let other = ("mcp-protocol-version", "2099-01-01");
        for (headers, params, expected) in [
            (&[][..], json!({}), Ok(Manner::Shaken)),
            (&[("mcp-protocol-version", "2025-11-25")], json!({}), Ok(Manner::Shaken)),
            (&[("mcp-protocol-version", "2025-11-25")], meta(BY_ITSELF.into()), Ok(Manner::Shaken)),
            (&[other], json!({}), Ok(Manner::Shaken)),
            (&[version, method], meta(BY_ITSELF.into()), Ok(Manner::ByItself)),
            (&[version, method], json!({}), Err(BAD_PARAMS)),
            (&[version, method], json!({ "_meta": { VERSION: BY_ITSELF } }), Err(BAD_PARAMS)),
            (&[version, method], meta(5.into()), Err(BAD_PARAMS)),
            (&[version], meta(BY_ITSELF.into()), Err(OTHER_HEADERS)),
            (&[method], meta(BY_ITSELF.into()), Err(OTHER_HEADERS)),
            (&[version, ("mcp-method", "tools/call")], meta(BY_ITSELF.into()), Err(OTHER_HEADERS)),
            (&[other, method], meta("2099-01-01".into()), Err(OTHER_VERSION)),
        ] {
            assert_eq!(manner(headers, "tools/list", params.clone()), expected, "{headers:?} {params}");
        }
    }

    #[test]
    fn the_header_of_a_call_names_its_tool() {
        let params = json!({ "name": "chat", "_meta": { VERSION: BY_ITSELF, CAPABILITIES: {} } });
        let call = |name| {
            let headers = [("mcp-protocol-version", BY_ITSELF), ("mcp-method", "tools/call"), ("mcp-name", name)];
            manner(&headers, "tools/call", params.clone())
        };
        assert_eq!((call("chat"), call("=?base64?Y2hhdA==?=")), (Ok(Manner::ByItself), Ok(Manner::ByItself)));
        assert_eq!((call("walk"), call("=?base64?d2Fsaw==?=")), (Err(OTHER_HEADERS), Err(OTHER_HEADERS)));
    }
}
