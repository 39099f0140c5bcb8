//! What lies around the routes: the log of requests, other sites' pages, and the prefix of all paths.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, Uri, header, uri::PathAndQuery},
    middleware,
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::Value;
use threadyard_core::{access::Gate, ambient::Ambient, sealing::SealingHandlers};
use threadyard_engine::Traces;
use threadyard_runtime::{CorsRules, CustomApp, HttpOptions, UiBundles};
use tower::ServiceExt;

use super::{
    access_log::{self, AccessLog},
    cors::{Cors, cors},
    custom_app,
    error::not_found,
    http_metrics::HttpMetrics,
    long_headers::refuse_long,
    rate::Rate,
    stalled_bodies::{Patience, end_stalled},
    system,
};

/// What all paths begin with, as clients see them.
#[derive(Clone)]
pub(super) struct Mount(pub(super) Arc<str>);

/// How much of the API is served.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// The largest body that is read.
    pub max_body: usize,
    /// So long the first line and the headers of a request may be together.
    pub max_header: usize,
    /// How long a body may bring nothing while it is waited for.
    pub body_silence: Duration,
    /// How long the body of a call of the API may take, and a second more for each KiB of it.
    pub body_within: Duration,
    /// How often one caller may ask, if there is a limit.
    pub rate: Option<Rate>,
}

impl Default for HttpLimits {
    /// Sizes as in the official server.
    fn default() -> Self {
        let (body_silence, body_within) = (Duration::from_secs(30), Duration::from_mins(1));
        Self { max_body: 300 << 20, max_header: 65_536, body_silence, body_within, rate: None }
    }
}

/// How the API is served.
#[derive(Clone)]
pub struct HttpSettings {
    /// What the project says.
    pub options: HttpOptions,
    /// Which pages of other sites may use it.
    pub cors: CorsRules,
    /// Who decides about access, if anybody does.
    pub gate: Option<Arc<dyn Gate>>,
    /// How large requests may be, and how many.
    pub limits: HttpLimits,
    /// What the document of the API says of that.
    pub auth_openapi: Option<Value>,
    /// What encrypts as the project's own handlers do, if it has any.
    pub sealing: Option<Arc<dyn SealingHandlers>>,
    /// Where the ids of requests come from.
    pub ambient: Ambient,
    /// The project's own application, which comes before the routes.
    pub app: Option<Arc<CustomApp>>,
    /// The bundles of its components, if it has any.
    pub ui: Option<Arc<UiBundles>>,
    /// What is counted of requests.
    pub metrics: Arc<HttpMetrics>,
    /// Where its spans go.
    pub traces: Traces,
}

/// Puts around the routes what every request passes.
pub(crate) fn edge(api: Router, http: &HttpSettings) -> Router {
    let HttpSettings { options, cors: rules, ambient, app, metrics, traces, .. } = http;
    let api = match app {
        Some(app) => custom_app::front(app.clone(), http, api),
        None => api,
    };
    let api = match options.mount_prefix.as_str() {
        "" => api,
        prefix => Router::new().fallback(below).with_state(Mounted { prefix: prefix.into(), api }),
    };
    let headers = Arc::new(options.logging_headers.clone());
    let log = AccessLog { headers, ambient: ambient.clone(), metrics: metrics.clone(), traces: traces.clone() };
    api.layer(middleware::from_fn_with_state(Patience::Silence(http.limits.body_silence), end_stalled))
        .layer(middleware::from_fn_with_state(http.limits.max_header, refuse_long))
        .layer(middleware::from_fn_with_state(Cors::new(rules.clone()), cors))
        .layer(middleware::from_fn_with_state(log, access_log::log))
}

/// The routes below a prefix.
#[derive(Clone)]
struct Mounted {
    prefix: Arc<str>,
    api: Router,
}

/// Answers requests below the prefix. Those who look after the server's health need not know of it.
async fn below(State(mounted): State<Mounted>, mut request: Request) -> Response {
    let Mounted { prefix, api } = mounted;
    let path = request.uri().path();
    match path.strip_prefix(&*prefix) {
        None if path == "/ok" => {
            let health = Router::new().route("/ok", any(system::ok));
            return health.oneshot(request).await.unwrap_or_else(|never| match never {});
        }
        Some("") => {
            let place = [(header::LOCATION, format!("{prefix}/"))];
            return (StatusCode::TEMPORARY_REDIRECT, place).into_response();
        }
        Some(rest) if rest.starts_with('/') => {
            let place = request.uri().path_and_query().map_or(path, PathAndQuery::as_str);
            let place = place[prefix.len()..].parse::<PathAndQuery>();
            let Ok(place) = place else { return not_found() };
            *request.uri_mut() = Uri::from(place);
        }
        _ => return not_found(),
    }
    api.oneshot(request).await.unwrap_or_else(|never| match never {})
}
