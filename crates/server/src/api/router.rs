//! All routes on one page: those that are served, and those of the official server that are refused for now.

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, delete, get, patch, post, put},
};
use serde_json::json;
use threadyard_engine::Engine;
use tower_http::{
    cors::{AllowHeaders, AllowMethods, Any, CorsLayer},
    set_header::SetResponseHeaderLayer,
};

use super::{
    OperatorAccess, assistants, checkpoints, crons, deliveries, destinations, docs, items, metrics, openapi, runs,
    stateless_runs, system, threads, webhook_keys,
};

/// The largest body that is read, as in the official server.
const MAX_BODY: usize = 300 << 20;

macro_rules! routes {
    ($($path:literal: $($method:ident $handler:expr),+;)+) => {
        /// What is served, as method and path.
        pub const SERVED: &[(&str, &str)] = &[$($((stringify!($method), $path)),+),+];

        fn served() -> Router<Engine> {
            Router::new()$(.route($path, MethodRouter::new()$(.merge($method($handler)))+))+
        }
    };
}

routes! {
    "/": get system::ok;
    "/ok": get system::ok;
    "/info": get system::info;
    "/metrics": get metrics::get;
    "/docs": get docs::page;
    "/openapi.json": get openapi::get;

    "/assistants": post assistants::create;
    "/assistants/search": post assistants::search;
    "/assistants/count": post assistants::count;
    "/assistants/{assistant_id}": get assistants::get, patch assistants::patch, delete assistants::delete;
    "/assistants/{assistant_id}/versions": post assistants::versions;
    "/assistants/{assistant_id}/latest": post assistants::latest;
    "/assistants/{assistant_id}/schemas": get assistants::schemas;
    "/assistants/{assistant_id}/graph": get assistants::graph;
    "/assistants/{assistant_id}/subgraphs": get assistants::subgraphs;
    "/assistants/{assistant_id}/subgraphs/{namespace}": get assistants::subgraphs_of;

    "/threads": post threads::create;
    "/threads/search": post threads::search;
    "/threads/count": post threads::count;
    "/threads/prune": post threads::prune;
    "/threads/{thread_id}": get threads::get, patch threads::patch, delete threads::delete;
    "/threads/{thread_id}/copy": post threads::copy;
    "/threads/{thread_id}/storage": get threads::storage;
    "/threads/{thread_id}/stream": get threads::stream;
    "/threads/{thread_id}/state": get checkpoints::get, post checkpoints::update;
    "/threads/{thread_id}/state/checkpoint": post checkpoints::get_at_checkpoint;
    "/threads/{thread_id}/state/{checkpoint_id}": get checkpoints::get_at;
    "/threads/{thread_id}/history": get checkpoints::history, post checkpoints::search_history;

    "/threads/{thread_id}/runs": get runs::list, post runs::create;
    "/threads/{thread_id}/runs/crons": post crons::create_on_thread;
    "/threads/{thread_id}/runs/stream": post runs::stream;
    "/threads/{thread_id}/runs/wait": post runs::wait;
    "/threads/{thread_id}/runs/{run_id}": get runs::get, delete runs::delete;
    "/threads/{thread_id}/runs/{run_id}/join": get runs::join;
    "/threads/{thread_id}/runs/{run_id}/stream": get runs::join_stream;
    "/threads/{thread_id}/runs/{run_id}/cancel": post runs::cancel;

    "/runs": post stateless_runs::create;
    "/runs/cancel": post stateless_runs::cancel;
    "/runs/batch": post stateless_runs::batch;
    "/runs/crons": post crons::create;
    "/runs/crons/search": post crons::search;
    "/runs/crons/count": post crons::count;
    "/runs/crons/{cron_id}": get crons::get, patch crons::patch, delete crons::delete;
    "/runs/stream": post stateless_runs::stream;
    "/runs/wait": post stateless_runs::wait;
    "/runs/{run_id}/stream": get stateless_runs::join_stream;

    "/store/items": put items::put, get items::get, delete items::delete;
    "/store/items/search": post items::search;
    "/store/namespaces": post items::namespaces;

    "/threads/{thread_id}/runs/{run_id}/deliveries": get deliveries::of_run;
    "/webhooks/deliveries/search": post deliveries::search;
    "/webhooks/deliveries/count": post deliveries::count;
    "/webhooks/deliveries/{delivery_id}": get deliveries::get;
    "/webhooks/deliveries/{delivery_id}/attempts": get deliveries::attempts;
    "/webhooks/deliveries/{delivery_id}/body": get deliveries::body;
    "/webhooks/deliveries/{delivery_id}/resend": post deliveries::resend;
    "/webhooks/deliveries/{delivery_id}/cancel": post deliveries::cancel;
    "/webhooks/recover": post destinations::recover;
    "/webhooks/recoveries/{recovery_id}": get destinations::recovery;
    "/webhooks/destinations": get destinations::list;
    "/webhooks/destinations/probe": post destinations::probe;
    "/webhooks/test": post destinations::test;
    "/webhooks/secret": get webhook_keys::secret;
    "/webhooks/secret/rotate": post webhook_keys::rotate;
    "/webhooks/public-key": get webhook_keys::public_key;
}

/// Routes of the official server that answer 501 with a sentence until they are built.
pub const REFUSED: &[&str] = &["/mcp", "/a2a/{assistant_id}"];

/// The whole API.
pub fn router(engine: Engine, access: OperatorAccess) -> Router {
    let exposed = HeaderValue::from_static("x-pagination-total, x-pagination-next, content-location");
    let refused = REFUSED.iter().fold(Router::new(), |router, path| router.route(path, any(not_yet)));
    served()
        .merge(refused)
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(Extension(access))
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(engine.clone(), to_the_end))
        .layer(cors())
        .layer(SetResponseHeaderLayer::if_not_present(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed))
        .with_state(engine)
}

/// Lets a handler go on when its client leaves: what has committed must also be announced, and a stream that nobody
/// reads must notice. Dropping the answer does that.
async fn to_the_end(State(engine): State<Engine>, request: Request, next: Next) -> Response {
    let answer = engine.background(next.run(request)).await;
    answer.unwrap_or_else(|error| {
        tracing::error!(%error, "a request handler panicked");
        (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "detail": "internal server error" }))).into_response()
    })
}

async fn not_yet(path: axum::extract::MatchedPath) -> impl IntoResponse {
    let detail = format!("`{}` is not supported yet; see docs/COMPATIBILITY.md", path.as_str());
    (StatusCode::NOT_IMPLEMENTED, Json(json!({ "detail": detail })))
}

async fn not_found() -> impl IntoResponse {
    (StatusCode::NOT_FOUND, Json(json!({ "detail": "Not Found" })))
}

async fn wrong_method(uri: Uri) -> Response {
    // Upstream: these exist for one method only.
    if matches!(uri.path(), "/" | "/ok") {
        return not_found().await.into_response();
    }
    (StatusCode::METHOD_NOT_ALLOWED, Json(json!({ "detail": "Method Not Allowed" }))).into_response()
}

fn cors() -> CorsLayer {
    let methods =
        [Method::DELETE, Method::GET, Method::HEAD, Method::OPTIONS, Method::PATCH, Method::POST, Method::PUT];
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(AllowMethods::list(methods))
        .allow_headers(AllowHeaders::mirror_request())
        .max_age(std::time::Duration::from_mins(10))
}
