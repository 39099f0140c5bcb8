//! What lies around the routes: pages of other sites, the prefix, groups that are not served, and what runs see of requests.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, Response},
};
use clap::Parser;
use serde_json::{Value, json};
use threadyard::{
    api::{HttpLimits, OperatorAccess},
    config::ServerArgs,
};
use threadyard_runtime::{CorsRules, Disabled, HttpOptions};

use crate::{Api, Flags, json as read, text};

fn flags(arguments: &[&str]) -> ServerArgs {
    Flags::parse_from([&["test"], arguments].concat()).server
}

async fn with_cors(cors: CorsRules) -> Api {
    Api::start_with(OperatorAccess::Nobody, HttpOptions::default(), cors, HttpLimits::default()).await
}

async fn with_options(options: HttpOptions) -> Api {
    Api::start_with(OperatorAccess::Nobody, options, flags(&[]).cors(None), HttpLimits::default()).await
}

fn only(origin: &str) -> CorsRules {
    CorsRules {
        allow_origins: vec![origin.into()],
        allow_origin_regex: None,
        allow_methods: vec!["GET".into(), "POST".into()],
        allow_headers: vec!["X-Foo".into()],
        allow_credentials: true,
        expose_headers: vec!["X-Exp".into()],
        max_age: Duration::from_secs(77),
    }
}

fn value(headers: &HeaderMap, name: &str) -> Option<String> {
    let all: Vec<_> = headers.get_all(name).iter().map(|it| it.to_str().unwrap()).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

fn allows(answer: &Response<Body>) -> Option<String> {
    value(answer.headers(), "access-control-allow-origin")
}

#[tokio::test]
async fn every_site_may_use_the_api_unless_somebody_says_otherwise() {
    let api = with_cors(flags(&[]).cors(None)).await;
    let asks = [
        ("origin", "https://a.test"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-api-key"),
    ];
    let answer = api.send_with("OPTIONS", "/threads", &asks, "").await;
    assert_eq!((answer.status().as_u16(), allows(&answer)), (200, Some("*".into())));
    assert_eq!(value(answer.headers(), "access-control-allow-headers"), Some("x-api-key".into()));
    assert_eq!(value(answer.headers(), "access-control-allow-private-network"), Some("true".into()));
    let methods = value(answer.headers(), "access-control-allow-methods").unwrap();
    assert_eq!(methods, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY");

    let answer = api.send_with("GET", "/info", &asks[..1], "").await;
    assert_eq!((allows(&answer), value(answer.headers(), "vary")), (Some("*".into()), Some("Origin".into())));
    let exposed = value(answer.headers(), "access-control-expose-headers").unwrap();
    assert_eq!(exposed, "x-pagination-total, x-pagination-next, content-location");
    let answer = api.send("GET", "/info", "").await;
    assert_eq!((allows(&answer), value(answer.headers(), "vary")), (None, Some("Origin".into())));
}

#[tokio::test]
async fn sites_that_are_not_named_are_refused() {
    let api = with_cors(only("https://ok.test")).await;
    for (origin, method, header, status, said) in [
        ("https://ok.test", "POST", "x-foo", 200, "OK"),
        ("https://bad.test", "POST", "x-foo", 400, "Disallowed CORS origin"),
        ("https://ok.test", "PATCH", "x-bar", 400, "Disallowed CORS method, headers"),
    ] {
        let asks =
            [("origin", origin), ("access-control-request-method", method), ("access-control-request-headers", header)];
        let answer = api.send_with("OPTIONS", "/threads", &asks, "").await;
        assert_eq!(answer.status().as_u16(), status, "{origin} {method}");
        assert_eq!(allows(&answer).is_some(), origin == "https://ok.test");
        assert_eq!(value(answer.headers(), "access-control-max-age"), Some("77".into()));
        assert_eq!(text(answer).await, said);
    }
    let bad = api.send_with("GET", "/info", &[("origin", "https://bad.test")], "").await;
    assert_eq!((bad.status().as_u16(), allows(&bad)), (200, None));
    let good = api.send_with("GET", "/info", &[("origin", "https://ok.test")], "").await;
    assert_eq!(allows(&good), Some("https://ok.test".into()));
    assert_eq!(value(good.headers(), "access-control-allow-credentials"), Some("true".into()));
    assert_eq!(value(good.headers(), "access-control-expose-headers"), Some("X-Exp".into()));
}

#[tokio::test]
async fn a_pattern_of_origins_has_to_fit_all_of_one() {
    let regex = regex::Regex::new("^(?:https://.*\\.test)$").unwrap();
    let api = with_cors(CorsRules { allow_origin_regex: Some(regex), ..only("https://ok.example") }).await;
    for (origin, allowed) in [("https://a.test", true), ("https://a.test.evil", false), ("https://ok.example", true)] {
        let answer = api.send_with("GET", "/info", &[("origin", origin)], "").await;
        assert_eq!(allows(&answer).is_some(), allowed, "{origin}");
    }
}

#[tokio::test]
async fn no_foreign_page_opens_a_socket() {
    let api = with_cors(only("https://ok.test")).await;
    let thread = api.thread().await;
    for (origin, host, refused) in [
        ("https://ok.test", "a.test", false),
        ("https://bad.test", "a.test", true),
        ("https://a.test", "a.test", false),
        ("null", "a.test", true),
    ] {
        let headers = [
            ("origin", origin),
            ("host", host),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
        ];
        let answer = api.send_with("GET", &format!("/threads/{thread}/stream/events"), &headers, "").await;
        assert_eq!(answer.status() == 403, refused, "{origin} of {host}");
    }
}

#[tokio::test]
async fn tools_are_for_pages_that_somebody_let_in() {
    let everybody = || flags(&[]).cors(None);
    for (access, cors, origin, admitted) in [
        (OperatorAccess::Everybody, everybody(), "http://rebound.test:2024", false),
        (OperatorAccess::Everybody, everybody(), "http://localhost:6274", true),
        (OperatorAccess::Everybody, only("https://ok.test"), "https://ok.test", true),
        (OperatorAccess::Nobody, everybody(), "https://any.test", true),
        (OperatorAccess::Nobody, only("https://ok.test"), "https://bad.test", false),
    ] {
        let api = Api::start_with(access, HttpOptions::default(), cors, HttpLimits::default()).await;
        let headers = [("origin", origin), ("host", "rebound.test:2024"), ("accept", "application/json")];
        let answer = api.send_with("POST", "/mcp", &headers, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
        assert_eq!(answer.status().as_u16(), if admitted { 200 } else { 403 }, "{origin}");
    }
}

#[tokio::test]
async fn the_page_of_the_api_lets_nothing_run() {
    let answer = with_options(HttpOptions::default()).await.send("GET", "/docs", "").await;
    let policy = value(answer.headers(), "content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("script-src"), "{policy}");
}

#[tokio::test]
async fn who_names_origins_in_the_environment_means_sites_that_send_cookies() {
    let api = with_cors(flags(&["--cors-allow-origins", "https://a.test, https://b.test"]).cors(None)).await;
    let answer = api.send_with("GET", "/info", &[("origin", "https://b.test")], "").await;
    assert_eq!(allows(&answer), Some("https://b.test".into()));
    assert_eq!(value(answer.headers(), "access-control-allow-credentials"), Some("true".into()));
    assert_eq!(allows(&api.send_with("GET", "/info", &[("origin", "https://c.test")], "").await), None);
}

#[tokio::test]
async fn everything_but_the_health_check_moves_below_a_prefix() {
    let api = with_options(HttpOptions { mount_prefix: "/my/api".into(), ..HttpOptions::default() }).await;
    for (method, path, status) in [
        ("GET", "/my/api/info", 200),
        ("POST", "/my/api/threads/search?x=1", 200),
        ("GET", "/ok", 200),
        ("GET", "/ok?ready=1", 200),
        ("GET", "/my/api/ok", 200),
        ("GET", "/my/api", 307),
        ("GET", "/my/api/", 200),
        ("GET", "/info", 404),
        ("GET", "/my/apis/info", 404),
        ("POST", "/threads/search", 404),
    ] {
        let answer = api.send(method, path, "{}").await;
        assert_eq!(answer.status().as_u16(), status, "{method} {path}");
        assert_eq!(value(answer.headers(), "location").as_deref(), (status == 307).then_some("/my/api/"));
    }
    let (_, run) =
        read(api.send("POST", "/my/api/runs", r#"{"assistant_id": "echo", "after_seconds": 60}"#).await).await;
    assert!(run["run_id"].is_string(), "{run}");
}

#[tokio::test]
async fn headers_that_are_too_long_are_told_so_like_all_other_requests() {
    let sent = "GET /info?a=b HTTP/1.1\r\norigin: https://a.test\r\nx-long: aaaa\r\n\r\n";
    for (most, status) in [(sent.len(), 200), (sent.len() - 1, 431)] {
        let limits = HttpLimits { max_header: most, ..HttpLimits::default() };
        let cors = flags(&[]).cors(None);
        let api = Api::start_with(OperatorAccess::Nobody, HttpOptions::default(), cors, limits).await;
        let headers = [("origin", "https://a.test"), ("x-long", "aaaa")];
        let answer = api.send_with("GET", "/info?a=b", &headers, "").await;
        assert_eq!((answer.status().as_u16(), allows(&answer)), (status, Some("*".into())));
        let (_, told) = read(answer).await;
        let why = format!("the first line and the headers have more than {most} bytes together");
        assert_eq!(told["detail"] == json!(why), status == 431, "{told}");
    }
}

#[tokio::test]
async fn no_key_takes_away_the_address_of_readiness() {
    let disabled = Disabled { meta: true, ..Disabled::default() };
    for mount_prefix in ["", "/my/api"] {
        let api =
            with_options(HttpOptions { disabled, mount_prefix: mount_prefix.into(), ..HttpOptions::default() }).await;
        assert_eq!(api.send("GET", "/ok?ready=1", "").await.status(), 200);
        assert_eq!(api.send("GET", &format!("{mount_prefix}/info"), "").await.status(), 404);
    }
}

#[tokio::test]
async fn groups_that_are_not_served_are_not_found_and_not_documented() {
    let disabled = Disabled { store: true, runs: true, mcp: true, ..Disabled::default() };
    let api = with_options(HttpOptions { disabled, ..HttpOptions::default() }).await;
    for (method, path) in [("POST", "/runs"), ("POST", "/runs/crons/search"), ("GET", "/store/items"), ("POST", "/mcp")]
    {
        let (status, said) = read(api.send(method, path, "{}").await).await;
        assert_eq!((status.as_u16(), said), (404, json!({"detail": "Not Found"})), "{path}");
    }
    assert_eq!(api.send("POST", "/threads", "{}").await.status(), 200);
    let (_, document) = read(api.send("GET", "/openapi.json", "").await).await;
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/threads") && !paths.contains_key("/runs") && !paths.contains_key("/store/items"));
    assert!(!text(api.send("GET", "/docs", "").await).await.contains("<code>/store/items</code>"));
}

#[tokio::test]
async fn runs_see_the_id_of_their_request_and_the_headers_that_are_meant() {
    let said = json!({"includes": ["x-my-*"], "excludes": ["x-my-secret"]});
    let options = HttpOptions { configurable_headers: serde_json::from_value(said).unwrap(), ..HttpOptions::default() };
    let api = with_options(options).await;
    let headers =
        [("x-request-id", "rid-1"), ("X-My-Tenant", "t"), ("x-my-secret", "s"), ("authorization", "Bearer q")];
    let body = json!({"assistant_id": "echo", "after_seconds": 60, "context": {"x-my-tenant": "forged"}});
    let (_, run) = read(api.send_with("POST", "/runs", &headers, &body.to_string()).await).await;
    let seen = &run["kwargs"]["config"]["configurable"];
    assert_eq!((&seen["langgraph_request_id"], &seen["x-my-tenant"]), (&json!("rid-1"), &json!("t")));
    assert_eq!((&seen["x-my-secret"], &seen["authorization"]), (&Value::Null, &Value::Null));

    let (_, runs) = read(api.send("POST", "/runs/batch", &json!([body]).to_string()).await).await;
    let own = runs[0]["kwargs"]["config"]["configurable"]["langgraph_request_id"].as_str().unwrap();
    assert_eq!(own.len(), 36, "a request that brings no id gets one");
}
