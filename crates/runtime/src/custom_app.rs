//! The user's HTTP application (`http.app`) in a process of its own, however busy the graphs are.

use std::sync::Arc;

use bytes::Bytes;
use regex::RegexSet;
use serde::{Deserialize, Serialize};
use threadyard_core::{
    json::{RawJson, raw_from_text},
    runtime::{GraphError, RuntimeError},
};

use crate::{
    auxiliary::{Auxiliary, Purpose},
    exchange::Exchange,
    load::{Load, LoadApp, Ready},
    project::HttpOptions,
};

/// The application, as it is loaded now.
pub struct CustomApp {
    process: Arc<Auxiliary>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path, decoded.
    pub path: &'a str,
    /// Whether it asks for a WebSocket.
    pub websocket: bool,
}

/// A request, as the application sees it before any message.
#[derive(Clone, Debug, Serialize)]
pub struct AppScope {
    /// `http` or `websocket`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The method; a WebSocket has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `http`, `https`, `ws` or `wss`.
    pub scheme: &'static str,
    /// Such as `1.1`.
    pub http_version: &'static str,
    /// The path, decoded.
    pub path: String,
    /// The path as it came.
    pub raw_path: Bytes,
    /// What the path begins with that is not the application's.
    pub root_path: String,
    /// What is behind the question mark.
    pub query_string: Bytes,
    /// The headers, with names in small letters.
    pub headers: Vec<(Bytes, Bytes)>,
    /// The address and port of the client.
    pub client: Option<(String, u16)>,
    /// Where it was reached.
    pub server: Option<(String, u16)>,
    /// What may be spoken on a WebSocket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subprotocols: Option<Vec<String>>,
    /// Whether no other route than one of the application may answer, wherever its middleware leads.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub own_only: bool,
    /// Who sends it, as JSON, where that has to be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Bytes>,
    /// Why its sender was not let in, for the case that a route of the application turns out to be meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// An answer to somebody who is not let in.
#[derive(Clone, Debug, Serialize)]
pub struct Refusal {
    /// Its status.
    pub status: u16,
    /// JSON.
    pub body: Bytes,
    /// Further headers, by name.
    pub headers: Vec<(String, String)>,
}

/// A request that the application has no route for, as its middleware has left it.
pub struct PassedOn {
    /// The request.
    pub scope: PassedScope,
    /// Its body and its answer.
    pub exchange: Exchange,
}

/// Where what is passed on comes.
pub type PassedOnReceiver = tokio::sync::mpsc::UnboundedReceiver<PassedOn>;

/// What is asked for.
#[derive(Debug, Deserialize)]
pub struct PassedScope {
    /// The method.
    pub method: String,
    /// The path, encoded.
    pub path: String,
    /// What is behind the question mark.
    #[serde(default)]
    pub query_string: Bytes,
    /// The headers.
    pub headers: Vec<(Bytes, Bytes)>,
    /// `http` or `https`.
    #[serde(default)]
    pub scheme: Option<String>,
    /// The address and port of the client.
    #[serde(default, deserialize_with = "client")]
    pub client: Option<(String, u16)>,
}

/// Middleware may have written anything; what is no address is nobody's.
fn client<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<(String, u16)>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Client(String, Option<u16>),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Written::deserialize(from)? {
        Written::Client(address, port) => Some((address, port.unwrap_or_default())),
        Written::Other(_) => None,
    })
}

/// What a worker with an application is for.
pub(crate) fn purpose(http: &HttpOptions, path: &str, nothing: Load) -> Purpose {
    let app = LoadApp { path: path.to_owned(), guarded: http.custom_route_auth };
    let load = Load { app: Some(app), ..nothing };
    Purpose { name: "http.app", load, objection }
}

/// There is one application, and one who answers what it passes on.
pub(crate) fn served_twice() -> RuntimeError {
    RuntimeError::Unavailable("http.app is served already".into())
}

/// Why a worker with an application can't be used.
fn objection(ready: &Ready) -> Option<String> {
    let Some(loaded) = &ready.app else { return Some("the worker does not know custom apps".into()) };
    let GraphError { error, message, traceback } = loaded.error.as_ref()?;
    tracing::error!("http.app could not be started\n{}", traceback.as_deref().unwrap_or_default());
    Some(format!("http.app: {error}: {message}"))
}

impl CustomApp {
    pub(crate) fn new(process: Arc<Auxiliary>) -> Self {
        Self { process }
    }

    /// Whether it has a route for a request.
    pub fn has_route(&self, target: Target<'_>) -> bool {
        self.process.current().ready.app.as_ref().is_some_and(|app| app.table.has(target))
    }

    /// Whether its middleware is to hear of requests that it has no route for.
    pub fn wraps(&self, target: Target<'_>) -> bool {
        !target.websocket && self.process.current().ready.app.as_ref().is_some_and(|app| app.middleware)
    }

    /// What it serves, as an OpenAPI document.
    pub fn openapi(&self) -> Option<RawJson> {
        let document = self.process.current().ready.app.as_ref()?.openapi.clone()?;
        raw_from_text(String::from_utf8(document.into()).ok()?).ok()
    }

    /// Begins to serve a request.
    pub fn open(&self, scope: &AppScope) -> Result<Exchange, RuntimeError> {
        Exchange::ours(self.process.worker()?.connection.clone(), scope)
    }
}

/// A route of an application.
#[derive(Debug, Deserialize)]
pub(crate) struct LoadedRoute {
    /// A regular expression of Python's.
    pattern: String,
    /// None: all of them.
    methods: Option<Vec<String>>,
    http: bool,
    websocket: bool,
}

/// The routes of an application, ready to be compared with.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Vec<LoadedRoute>")]
pub(crate) struct RouteTable {
    /// None: they are too many for a set, and each route may be meant.
    patterns: Option<RegexSet>,
    routes: Vec<LoadedRoute>,
}

impl From<Vec<LoadedRoute>> for RouteTable {
    fn from(routes: Vec<LoadedRoute>) -> Self {
        let patterns = RegexSet::new(routes.iter().map(|route| &route.pattern)).or_else(|_| {
            // What only Python understands is left to it: it passes on what it does not take.
            let known =
                |route: &LoadedRoute| regex::Regex::new(&route.pattern).map_or("", |_| &route.pattern).to_owned();
            RegexSet::new(routes.iter().map(known))
        });
        Self { patterns: patterns.ok(), routes }
    }
}

impl RouteTable {
    fn has(&self, target: Target<'_>) -> bool {
        let takes = |route: &LoadedRoute| {
            let method = || route.methods.as_ref().is_none_or(|all| all.iter().any(|it| it == target.method));
            if target.websocket { route.websocket } else { route.http && method() }
        };
        match &self.patterns {
            Some(patterns) => patterns.matches(target.path).into_iter().any(|index| takes(&self.routes[index])),
            None => self.routes.iter().any(takes),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol;

    fn route(pattern: &str, methods: Option<&[&str]>, websocket: bool) -> LoadedRoute {
        let methods = methods.map(|all| all.iter().map(|&it| it.to_owned()).collect());
        LoadedRoute { pattern: pattern.into(), methods, http: !websocket, websocket }
    }

    #[test]
    fn a_route_takes_its_methods_and_paths_only() {
        let mount = LoadedRoute { websocket: true, ..route("^/sub/(?P<path>.*)$", None, false) };
        let routes =
            vec![route("^/items/(?P<id>[0-9]+)$", Some(&["GET", "HEAD"]), false), route("^/ws$", None, true), mount];
        let table = RouteTable::from(routes);
        for (method, path, websocket, taken) in [
            ("GET", "/items/7", false, true),
            ("POST", "/items/7", false, false),
            ("GET", "/items/x", false, false),
            ("GET", "/ws", true, true),
            ("GET", "/ws", false, false),
            ("DELETE", "/sub/a/b", false, true),
            ("GET", "/sub/a", true, true),
            ("GET", "/sub", false, false),
        ] {
            assert_eq!(table.has(Target { method, path, websocket }), taken, "{method} {path}");
        }
    }

    #[test]
    fn of_patterns_that_are_no_set_each_may_be_meant() {
        let table = RouteTable { patterns: None, routes: vec![route("^/b$", Some(&["GET"]), false)] };
        assert!(table.has(Target { method: "GET", path: "/anything", websocket: false }));
        assert!(!table.has(Target { method: "POST", path: "/anything", websocket: false }));
    }

    #[test]
    fn middleware_may_write_any_client() {
        for (written, client) in [
            (json!(["1.2.3.4", 80]), Some(("1.2.3.4", 80))),
            (json!(["1.2.3.4", null]), Some(("1.2.3.4", 0))),
            (json!(["1.2.3.4", 65536]), None),
            (json!(["1.2.3.4", "80"]), None),
            (json!("1.2.3.4"), None),
            (json!(null), None),
        ] {
            let scope = json!({ "method": "GET", "path": "/", "headers": [], "client": written });
            let scope: PassedScope = protocol::read(&protocol::frame(0, 0, &scope).body).unwrap();
            assert_eq!(scope.client, client.map(|(address, port)| (address.to_owned(), port)), "{written}");
        }
    }

    #[test]
    fn what_only_python_understands_takes_everything() {
        let table = RouteTable::from(vec![route("^/(?P<a>x(?=y))$", None, false), route("^/b$", None, false)]);
        assert!(table.has(Target { method: "GET", path: "/anything", websocket: false }));
    }
}
