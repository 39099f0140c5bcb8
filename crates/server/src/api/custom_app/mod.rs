//! The user's HTTP application before, and around, the routes of this server.

mod deliveries;
mod passed_on;
mod request;
mod websocket;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::json;
use threadyard_core::{access::Gate, runtime::RuntimeError};
use threadyard_runtime::{AppScope, CustomApp, HttpOptions, Refusal, Target};
use tower::ServiceExt;

use super::{
    caller::{PUBLIC, challenged, identified, turned_away},
    edge::HttpSettings,
    http_metrics::AnsweredBy,
};

pub(crate) use self::{deliveries::OwnRoutes, passed_on::answer_passed_on};

/// From where a request came, as far as whoever is between can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The address; its port is 0 where a proxy tells it.
    pub(crate) address: SocketAddr,
    /// Whether it came encrypted to that proxy.
    pub(crate) secure: bool,
}

/// The application in front of the routes.
#[derive(Clone)]
struct Front {
    app: Arc<CustomApp>,
    api: Router,
    rules: Arc<Rules>,
}

struct Rules {
    prefix: String,
    /// Who tells callers apart, if anybody does.
    gate: Option<Arc<dyn Gate>>,
    custom_route_auth: bool,
    auth_first: bool,
    max_body: usize,
}

/// Puts the application in front of the routes.
pub(super) fn front(app: Arc<CustomApp>, http: &HttpSettings, api: Router) -> Router {
    let HttpOptions { mount_prefix, custom_route_auth, auth_first, .. } = http.options.clone();
    let rules = Rules {
        prefix: mount_prefix,
        gate: http.gate.clone(),
        custom_route_auth,
        auth_first,
        max_body: http.limits.max_body,
    };
    Router::new().fallback(dispatch).with_state(Front { app, api, rules: Arc::new(rules) })
}

/// Hands a request over to the application, if that wants it.
async fn dispatch(State(Front { app, api, rules }): State<Front>, mut request: Request) -> Response {
    let path = percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned();
    let upgrade = request.headers().get(header::UPGRADE);
    let websocket = upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let target = Target { method: request.method().as_str(), path: &path, websocket };
    let has_route = app.has_route(target);
    // Upstream: whether the server lives is not the application's to say.
    if path == "/ok" || !(has_route || app.wraps(target)) {
        return api.oneshot(request).await.unwrap_or_else(|never| match never {});
    }
    let (mut user, mut refusal) = (None, None);
    if let Some((gate, need)) = rules.gate_for(has_route, &path) {
        let (mut parts, body) = request.into_parts();
        let (found, body) = match identified(gate, &mut parts, body, rules.max_body).await {
            Ok(found) => found,
            Err(refused) => return challenged(turned_away(refused, websocket), gate),
        };
        match found {
            Ok(found) => user = serde_json::to_vec(&found).ok().filter(|_| rules.custom_route_auth).map(Bytes::from),
            Err(refused) if need == Need::Now => return challenged(turned_away(refused, websocket), gate),
            Err(refused) => refusal = Some(with_challenges(refused.into(), gate)),
        }
        request = Request::from_parts(parts, body);
    }
    let scope = AppScope { user, refusal, ..scope(&request, &path, &rules.prefix, websocket) };
    let exchange = match app.open(&scope) {
        Ok(exchange) => exchange,
        Err(error) => return unavailable(&error),
    };
    let answer =
        if websocket { websocket::serve(exchange, request).await } else { request::serve(exchange, request).await };
    (Extension(AnsweredBy::app()), answer).into_response()
}

/// As `challenged`, of an answer that the worker sends.
fn with_challenges(mut refusal: Refusal, gate: &Arc<dyn Gate>) -> Refusal {
    let name = header::WWW_AUTHENTICATE.as_str();
    if refusal.status == StatusCode::UNAUTHORIZED && !refusal.headers.iter().any(|(given, _)| given == name) {
        refusal.headers.extend(gate.challenges().iter().map(|challenge| (name.to_owned(), (*challenge).to_owned())));
    }
    refusal
}

impl Rules {
    /// Who is asked about a request before the application hears of it. The server's own routes have a guard themselves.
    fn gate_for(&self, has_route: bool, path: &str) -> Option<(&Arc<dyn Gate>, Need)> {
        let need = match (has_route, self.custom_route_auth) {
            (true, true) => Need::Now,
            (false, _) if self.auth_first && !is_open(path) => Need::Now,
            (false, true) if !is_open(path) => Need::Later,
            _ => return None,
        };
        Some((self.gate.as_ref()?, need))
    }
}

/// When a caller has to be known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Before the application hears of the request.
    Now,
    /// When its middleware has led the request to one of its routes.
    Later,
}

/// What anybody may ask, and what operators prove themselves for.
fn is_open(path: &str) -> bool {
    let is_component_file = path.strip_prefix("/ui/").is_some_and(|rest| rest.contains('/'));
    PUBLIC.contains(&path) || is_component_file || path.starts_with("/webhooks/")
}

fn scope(request: &Request, path: &str, prefix: &str, websocket: bool) -> AppScope {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let headers = request.headers();
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let server =
        text(header::HOST).rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    let protocols = text(header::SEC_WEBSOCKET_PROTOCOL).split(',').map(str::trim).filter(|it| !it.is_empty());
    let peer = request.extensions().get::<Peer>();
    let secure = peer.is_some_and(|peer| peer.secure);
    AppScope {
        kind: if websocket { "websocket" } else { "http" },
        method: (!websocket).then(|| request.method().to_string()),
        scheme: match (websocket, secure) {
            (true, true) => "wss",
            (true, false) => "ws",
            (false, true) => "https",
            (false, false) => "http",
        },
        http_version: "1.1",
        path: format!("{prefix}{path}"),
        raw_path: bytes(&format!("{prefix}{}", request.uri().path())),
        root_path: prefix.to_owned(),
        query_string: bytes(request.uri().query().unwrap_or_default()),
        headers: headers
            .iter()
            .map(|(name, value)| (bytes(name.as_str()), Bytes::copy_from_slice(value.as_bytes())))
            .collect(),
        client: peer.map(|Peer { address, .. }| (address.ip().to_string(), address.port())),
        server,
        own_only: false,
        user: None,
        refusal: None,
        subprotocols: websocket.then(|| protocols.map(str::to_owned).collect()),
    }
}

/// Headers that are about one connection, and not about what is sent over it.
const OF_THE_CONNECTION: [HeaderName; 3] = [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE];

/// The headers of an answer, as the application wrote them.
fn headers_of(written: &[(Bytes, Bytes)]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(written.len());
    for (name, value) in written {
        let (name, value) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value));
        match (name, value) {
            (Ok(name), Ok(value)) if !OF_THE_CONNECTION.contains(&name) => drop(headers.append(name, value)),
            (Ok(_), Ok(_)) => {}
            _ => tracing::warn!("a header of the application can't be sent and is left out"),
        }
    }
    headers
}

fn unavailable(error: &RuntimeError) -> Response {
    let detail = error.to_string();
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], Json(json!({ "detail": detail }))).into_response()
}

/// Upstream: what a failed application leaves behind.
fn failed() -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error").into_response()
}
