//! All routes on one page: those that are served, and those of the official server that are refused for now.

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::{StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, delete, get, patch, post, put},
};
use serde_json::json;
use threadyard_engine::Engine;
use threadyard_runtime::Disabled;
use tracing::Instrument;

use super::{
    OperatorAccess, a2a, assistants,
    caller::{Guard, Served, authenticate},
    checkpoints,
    cors::Cors,
    crons, deliveries, destinations, docs,
    edge::{HttpSettings, Mount, edge},
    error::not_found,
    event_socket, event_streaming,
    http_metrics::AnsweredBy,
    items, mcp, metrics,
    openapi::{self, Documents},
    rate::{Buckets, by_address},
    request_id::ConfigurableHeaders,
    runs, sealing,
    stalled_bodies::{Patience, end_stalled},
    stateless_runs, system, threads, ui, webhook_keys,
};

macro_rules! routes {
    ($($path:literal: $($method:ident $handler:expr),+;)+) => {
        /// What is served, as method and path.
        pub const SERVED: &[(&str, &str)] = &[$($((stringify!($method), $path)),+),+];

        fn served(is_served: impl Fn(&str) -> bool) -> Router<Served> {
            let mut router = Router::new();
            $(if is_served($path) {
                router = router.route($path, MethodRouter::new()$(.merge($method($handler)))+);
            })+
            router
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
    "/threads/{thread_id}/stream/events": get event_socket::connect, post event_streaming::events;
    "/threads/{thread_id}/commands": post event_streaming::command;
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

    "/mcp": post mcp::post, delete mcp::delete;
    "/a2a/{assistant_id}": get a2a::card, post a2a::post;
    "/a2a/{assistant_id}/.well-known/agent-card.json": get a2a::card;
    "/a2a/{assistant_id}/.well-known/agent.json": get a2a::card;
    "/.well-known/agent-card.json": get a2a::well_known;

    "/ui/{graph}": post ui::component;
    "/ui/{graph}/{file}": get ui::file;

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

/// The whole API.
pub fn router(engine: Engine, access: OperatorAccess, http: &HttpSettings) -> Router {
    edge(routes(engine, access, http), http)
}

/// The server's own routes.
pub(crate) fn routes(engine: Engine, access: OperatorAccess, http: &HttpSettings) -> Router {
    // Without components there is nothing to ask for.
    let disabled = Disabled { ui: http.options.disabled.ui || http.ui.is_none(), ..http.options.disabled };
    let is_served = |path: &str| !is_disabled(path, disabled);
    let mut routes = served(is_served);
    if is_served("/mcp") {
        routes = routes.route("/mcp/", any(mcp::without_slash));
    }
    let routes = routes.fallback(async || not_found()).method_not_allowed_fallback(wrong_method);
    let buckets = http.limits.rate.map(|rate| Buckets::new(rate, http.ambient.clone()));
    let routes = match &http.sealing {
        Some(handlers) => routes.layer(middleware::from_fn_with_state(handlers.clone(), sealing::under_context)),
        None => routes,
    };
    let guarded = match &http.gate {
        None => match buckets {
            Some(buckets) => routes.layer(middleware::from_fn_with_state(buckets, by_address)),
            None => routes,
        },
        Some(gate) => {
            let max_body = http.limits.max_body;
            let guard = Guard { engine: engine.clone(), gate: gate.clone(), max_body, buckets };
            routes.layer(middleware::from_fn_with_state(guard, authenticate))
        }
    };
    guarded
        // Routes of the project's own application may take what they are sent as slowly as they like.
        .layer(middleware::from_fn_with_state(Patience::Whole(http.limits.body_within), end_stalled))
        .layer(Extension(access))
        .layer(Extension(http.metrics.clone()))
        .layer(Extension(Cors::new(http.cors.clone())))
        .layer(Extension(ConfigurableHeaders(http.options.configurable_headers.clone().into())))
        .layer(Extension(Documents::new(is_served, http)))
        .layer(Extension(ui::Bundles(http.ui.clone())))
        .layer(Extension(Mount(http.options.mount_prefix.as_str().into())))
        .layer(axum::extract::DefaultBodyLimit::max(http.limits.max_body))
        .layer(middleware::from_fn_with_state(engine.clone(), to_the_end))
        .with_state(Served::new(engine, http.gate.as_ref()))
}

/// Whether a route belongs to a group that is not served.
fn is_disabled(path: &str, disabled: Disabled) -> bool {
    let below = |group: &str| path == group || path.strip_prefix(group).is_some_and(|rest| rest.starts_with('/'));
    let is_run = below("/runs")
        || ["/runs", "/commands", "/stream/events"]
            .iter()
            .any(|of_runs| path.strip_prefix("/threads/{thread_id}").is_some_and(|rest| rest.starts_with(of_runs)));
    match path {
        "/" | "/info" | "/metrics" | "/docs" | "/openapi.json" => disabled.meta,
        _ if is_run => disabled.runs,
        _ if below("/assistants") => disabled.assistants,
        _ if below("/threads") => disabled.threads,
        _ if below("/store") => disabled.store,
        _ if below("/mcp") => disabled.mcp,
        _ if below("/ui") => disabled.ui,
        _ if below("/a2a") || below("/.well-known") => disabled.a2a,
        _ => false,
    }
}

/// Lets a handler go on when its client leaves: what has committed must also be announced, and a stream that nobody
/// reads must notice. Dropping the answer does that.
async fn to_the_end(State(engine): State<Engine>, request: Request, next: Next) -> Response {
    let by = AnsweredBy::route(request.extensions());
    let answer = engine.background(next.run(request).in_current_span()).await;
    let mut answer = answer.unwrap_or_else(|error| {
        tracing::error!(%error, "a request handler panicked");
        (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "detail": "internal server error" }))).into_response()
    });
    if let Some(by) = by {
        answer.extensions_mut().insert(by);
    }
    answer
}

async fn wrong_method(uri: Uri) -> Response {
    // Upstream: these exist for one method only.
    if matches!(uri.path(), "/" | "/ok") {
        return not_found();
    }
    (StatusCode::METHOD_NOT_ALLOWED, Json(json!({ "detail": "Method Not Allowed" }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_belongs_to_the_group_that_its_users_think_of() {
        let all = Disabled {
            assistants: true,
            threads: true,
            runs: true,
            store: true,
            mcp: true,
            a2a: true,
            meta: true,
            webhooks: true,
            ui: true,
        };
        let kept: Vec<_> = SERVED.iter().map(|(_, path)| *path).filter(|path| !is_disabled(path, all)).collect();
        assert!(kept.iter().all(|path| *path == "/ok" || path.starts_with("/webhooks/")), "{kept:?}");
        let runs = Disabled { runs: true, ..Disabled::default() };
        for (path, disabled) in [
            ("/threads/{thread_id}/runs/{run_id}/join", true),
            ("/threads/{thread_id}/commands", true),
            ("/runs/crons/search", true),
            ("/threads/{thread_id}/stream", false),
            ("/threads/{thread_id}", false),
            ("/info", false),
        ] {
            assert_eq!(is_disabled(path, runs), disabled, "{path}");
        }
    }
}
