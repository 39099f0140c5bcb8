//! Which pages of other sites may use the API: `http.cors` of langgraph.json, or `CORS_ALLOW_ORIGINS`. Written by hand since
//! a refused preflight has an answer of its own here.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use threadyard_runtime::CorsRules;

/// The rules, ready to be compared with.
#[derive(Clone)]
pub(super) struct Cors(Arc<Rules>);

struct Rules {
    said: CorsRules,
    every_origin: bool,
    every_header: bool,
    methods: Vec<String>,
    headers: Vec<String>,
    /// What every answer to a page of another site has.
    simple: HeaderMap,
    /// What every answer to a preflight has.
    preflight: HeaderMap,
}

const METHODS: [&str; 8] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY"];
/// Headers that pages may always send.
const SAFE_HEADERS: [&str; 4] = ["Accept", "Accept-Language", "Content-Language", "Content-Type"];
const PREFLIGHT_VARIES: &str =
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network";
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
/// The separator of lists in headers.
const COMMA: &str = ", ";

impl Cors {
    pub(super) fn new(rules: CorsRules) -> Self {
        let has_star = |texts: &[String]| texts.iter().any(|text| text == "*");
        let (every_origin, every_header) = (has_star(&rules.allow_origins), has_star(&rules.allow_headers));
        let methods = if has_star(&rules.allow_methods) {
            METHODS.map(str::to_owned).to_vec()
        } else {
            rules.allow_methods.iter().map(|method| method.to_ascii_uppercase()).collect()
        };
        let mut headers: Vec<_> =
            SAFE_HEADERS.map(str::to_owned).into_iter().chain(rules.allow_headers.clone()).collect();
        headers.sort_unstable();
        headers.dedup();
        let text = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));

        let mut simple = HeaderMap::new();
        if every_origin && !rules.allow_credentials {
            simple.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        if rules.allow_credentials {
            simple.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        let mut preflight = simple.clone();
        if !rules.expose_headers.is_empty() {
            simple.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, text(&rules.expose_headers.join(COMMA)));
        }
        preflight.insert(header::VARY, HeaderValue::from_static(PREFLIGHT_VARIES));
        preflight.insert(header::ACCESS_CONTROL_ALLOW_METHODS, text(&methods.join(COMMA)));
        preflight.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(rules.max_age.as_secs()));
        preflight.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        if !every_header {
            preflight.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, text(&headers.join(COMMA)));
        }
        for header in &mut headers {
            header.make_ascii_lowercase();
        }
        Self(Arc::new(Rules { said: rules, every_origin, every_header, methods, headers, simple, preflight }))
    }
}

impl Cors {
    /// Whether a page of this origin may do what browsers let it do unasked, such as to open a WebSocket.
    pub(super) fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        self.0.allow(origin) || is_own(origin, headers.get(header::HOST))
    }

    /// Whether pages of all origins are let in, which may be since nobody thought of it.
    pub(super) fn admits_everybody(&self) -> bool {
        self.0.every_origin
    }
}

/// Whether a page comes from this server, as its browser sees it.
fn is_own(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    authority.zip(host.and_then(|host| host.to_str().ok())).is_some_and(|(own, host)| own.eq_ignore_ascii_case(host))
}

/// Answers preflights, and tells browsers what pages may see of other answers.
pub(super) async fn cors(State(Cors(rules)): State<Cors>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else {
        let mut answer = next.run(request).await;
        answer.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
        return answer;
    };
    let asks = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD);
    if let Some(method) = asks.filter(|_| request.method() == Method::OPTIONS) {
        return rules.preflight(&origin, method, request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS));
    }
    // Browsers ask nobody before they open one, and send cookies with it.
    if request.headers().contains_key(header::SEC_WEBSOCKET_KEY) && !Cors(rules.clone()).admits(request.headers()) {
        return (StatusCode::FORBIDDEN, "Disallowed CORS origin").into_response();
    }
    let mut answer = next.run(request).await;
    let headers = answer.headers_mut();
    for (name, value) in &rules.simple {
        headers.insert(name, value.clone());
    }
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if !rules.simple.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) && rules.allow(&origin) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    answer
}

impl Rules {
    fn allow(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        let by_pattern = || self.said.allow_origin_regex.as_ref().is_some_and(|regex| regex.is_match(origin));
        self.every_origin || self.said.allow_origins.iter().any(|allowed| allowed == origin) || by_pattern()
    }

    fn preflight(&self, origin: &HeaderValue, method: &HeaderValue, asked: Option<&HeaderValue>) -> Response {
        let mut headers = self.preflight.clone();
        let mut refused = Vec::new();
        if !self.allow(origin) {
            refused.push("origin");
        } else if !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        if !self.methods.iter().any(|allowed| method == allowed.as_str()) {
            refused.push("method");
        }
        if let Some(asked) = asked {
            let mut names = asked.to_str().unwrap_or("?").split(',').map(|name| name.trim().to_ascii_lowercase());
            if self.every_header {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
            } else if !names.all(|name| self.headers.contains(&name)) {
                refused.push("headers");
            }
        }
        if refused.is_empty() {
            return (StatusCode::OK, headers, "OK").into_response();
        }
        (StatusCode::BAD_REQUEST, headers, format!("Disallowed CORS {}", refused.join(COMMA))).into_response()
    }
}
