//! What requests may hold, and how the API answers those that make no sense.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{Request, StatusCode, header},
};
use clap::Parser;
use futures_util::{StreamExt, stream};
use serde_json::json;
use threadyard::api::{HttpLimits, OperatorAccess};
use threadyard_runtime::HttpOptions;
use tower::ServiceExt;

use crate::{Api, Flags, SOON, json, text};

#[tokio::test]
async fn nonsense_is_refused_with_a_sentence_that_names_it() {
    let api = Api::start().await;
    let thread = api.thread().await;
    let runs = format!("/threads/{thread}/runs");
    for (method, path, body, status, named) in [
        ("POST", "/threads", "{not json", 422, "column"),
        ("POST", "/threads", "[]", 422, "body"),
        ("POST", "/threads", r#"{"thread_id": "x"}"#, 422, "`x`"),
        ("GET", "/threads/x", "", 422, "`x`"),
        ("POST", runs.as_str(), "{}", 422, "assistant_id"),
        ("POST", runs.as_str(), r#"{"assistant_id": "echo", "stream_mode": "loud"}"#, 422, "body"),
        ("POST", runs.as_str(), r#"{"assistant_id": "echo", "after_seconds": -1}"#, 422, "after_seconds"),
        ("POST", runs.as_str(), r#"{"assistant_id": "echo", "webhook": "x"}"#, 422, "webhook"),
        ("POST", runs.as_str(), r#"{"assistant_id": "echo", "webhook": "http://127.0.0.1/"}"#, 422, "disable_loopback"),
        (
            "POST",
            runs.as_str(),
            r#"{"assistant_id": "echo", "config": {"recursion_limit": "x"}}"#,
            422,
            "recursion_limit",
        ),
        ("POST", runs.as_str(), r#"{"assistant_id": "broken"}"#, 503, "`broken`"),
        ("GET", &format!("{runs}?select=colour"), "", 422, "`colour`"),
        ("POST", "/threads/search", r#"{"select": ["colour"]}"#, 422, "`colour`"),
        ("POST", "/threads/search", r#"{"limit": 1001}"#, 422, "limit"),
        ("POST", "/assistants/search", r#"{"select": ["colour"]}"#, 422, "`colour`"),
        ("POST", "/runs/batch", "[]", 422, "empty"),
        ("POST", "/runs/crons", "{}", 422, "schedule"),
        ("POST", "/runs/crons", r#"{"assistant_id": "echo", "schedule": 5}"#, 422, "body"),
        ("POST", "/runs/crons", r#"{"assistant_id": "echo", "schedule": "0 0 31 2 *"}"#, 400, "schedule"),
        ("POST", "/runs/crons/search", r#"{"sort_by": "colour"}"#, 422, "colour"),
        ("GET", "/runs/crons/x", "", 422, "`x`"),
        ("PUT", "/store/items", r#"{"namespace": ["a"], "key": "k", "value": 1}"#, 422, "value"),
        ("PUT", "/store/items", r#"{"namespace": [], "key": "k", "value": {}}"#, 400, "namespace"),
        ("PUT", "/store/items", r#"{"namespace": ["a"], "key": "k", "value": {}, "index": true}"#, 422, "index"),
        ("PUT", "/store/items", r#"{"namespace": ["a"], "key": "k", "value": {}, "ttl": -1}"#, 422, "ttl"),
        ("POST", "/threads", r#"{"ttl": 5}"#, 422, "body"),
        ("POST", "/threads", r#"{"ttl": {"ttl": -1}}"#, 422, "ttl.ttl"),
        ("POST", "/threads", r#"{"ttl": {"strategy": "forget"}}"#, 422, "forget"),
        ("POST", "/threads", r#"{"supersteps": [{"updates": []}]}"#, 400, "supersteps"),
        ("POST", "/threads/search", r#"{"extract": {"a": "status.x"}}"#, 422, "status.x"),
        ("POST", "/threads/prune", "{}", 422, "thread_ids"),
        ("POST", "/runs/cancel", "{}", 422, "run_ids"),
        ("POST", "/runs/cancel", r#"{"status": "running"}"#, 404, "cancel"),
        ("POST", "/assistants", "{}", 422, "graph_id"),
        ("POST", "/assistants", r#"{"graph_id": "nobody"}"#, 404, "Graph"),
        ("GET", "/nowhere", "", 404, "Not Found"),
        ("PUT", "/threads", "{}", 405, "Method Not Allowed"),
    ] {
        let (got, answer) = json(api.send(method, path, body).await).await;
        let detail = answer["detail"].as_str().unwrap_or_default();
        assert_eq!(got.as_u16(), status, "{method} {path} {body}: {answer}");
        assert!(detail.contains(named), "{method} {path} {body}: {detail}");
    }
    assert_eq!(json(api.send("GET", &runs, "").await).await.1, json!([]), "nothing of it was stored");
}

#[tokio::test]
async fn only_the_columns_that_were_asked_for_are_shown() {
    let api = Api::start().await;
    let thread = api.thread().await;
    let create = r#"{"assistant_id": "echo", "input": {}, "metadata": {"a": 1}}"#;
    let (_, run) = json(api.send("POST", &format!("/threads/{thread}/runs"), create).await).await;
    let listed = api.send("GET", &format!("/threads/{thread}/runs?select=run_id&select=thread_id"), "").await;
    assert_eq!(json(listed).await.1, json!([{ "run_id": run["run_id"], "thread_id": thread }]));
    let found = api.send("POST", "/threads/search", r#"{"select": ["thread_id"]}"#).await;
    assert_eq!(json(found).await.1, json!([{ "thread_id": thread }]));
}

#[tokio::test]
async fn a_run_shows_what_it_is_executed_with() {
    let api = Api::start().await;
    let thread = api.thread().await;
    let create = r#"{"assistant_id": "echo", "input": {"x": 1}, "metadata": {"a": 1}, "config": {"tags": ["t"]}}"#;
    let answer = api.send("POST", &format!("/threads/{thread}/runs"), create).await;
    let place = answer.headers()[header::CONTENT_LOCATION].to_str().unwrap().to_owned();
    let (status, run) = json(answer).await;
    assert_eq!((status, &run["status"]), (StatusCode::OK, &json!("pending")));
    assert_eq!(place, format!("/threads/{thread}/runs/{}", run["run_id"].as_str().unwrap()));
    assert_eq!(run["metadata"], run["kwargs"]["config"]["metadata"]);
    assert_eq!((&run["metadata"]["a"], &run["metadata"]["graph_id"]), (&json!(1), &json!("echo")));
    assert_eq!(run["kwargs"]["config"]["configurable"]["thread_id"], thread);
    assert_eq!((&run["kwargs"]["input"], &run["kwargs"]["stream_mode"]), (&json!({ "x": 1 }), &json!(["values"])));
}

#[tokio::test]
async fn browsers_of_any_origin_may_ask() {
    let api = Api::start().await;
    let headers = [("origin", "https://smith.langchain.com"), ("access-control-request-method", "POST")];
    let answer = api.send_with("OPTIONS", "/threads", &headers, "").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
}

#[tokio::test]
async fn the_page_of_routes_lists_all_of_them() {
    let api = Api::start().await;
    let page = axum::body::to_bytes(api.send("GET", "/docs", "").await.into_body(), 1 << 20).await.unwrap();
    let page = String::from_utf8(page.to_vec()).unwrap();
    for (_, path) in threadyard::api::SERVED {
        // There is nothing of the kind without components.
        let is_there = !path.starts_with("/ui/");
        assert_eq!(page.contains(&format!("<code>{path}</code>")), is_there, "{path}");
    }
}

#[tokio::test]
async fn values_are_passed_on_as_they_were_written() {
    let api = Api::start().await;
    let thread = api.thread().await;
    let odd = r#"{"deep":{"list":[0,"\ud800"]},"big":1e999}"#;
    let create = format!(r#"{{"assistant_id": "echo", "input": {odd}}}"#);
    let waiting = api.send("POST", &format!("/threads/{thread}/runs/wait"), &create).await;
    let run = api.runtime.next_run().await;
    assert_eq!(run.job.input.as_ref().unwrap().get(), odd);
    run.succeed(&threadyard_core::json::raw_from_text(odd.into()).unwrap());
    assert_eq!(text(waiting).await, odd);
    let search = r#"{"select": ["values"], "extract": {"it": "values.deep.list.1", "none": "values.x.y"}}"#;
    let found = text(api.send("POST", "/threads/search", search).await).await;
    assert_eq!(found, format!(r#"[{{"values":{odd},"extracted":{{"it":"\ud800","none":null}}}}]"#));
    let update = format!(r#"{{"values": {odd}}}"#);
    let updated = api.send("POST", &format!("/threads/{thread}/state"), &update).await;
    assert_ne!(updated.status(), StatusCode::OK, "the scripted runtime knows no states");
}

#[tokio::test]
async fn a_batch_is_created_whole_or_not_at_all() {
    let api = Api::start().await;
    let good = r#"{"assistant_id": "echo", "input": {}}"#;
    for bad in [r#"{"assistant_id": "nobody"}"#, r#"{"assistant_id": "echo", "webhook": "x"}"#] {
        let refused = api.send("POST", "/runs/batch", &format!("[{good}, {bad}]")).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    let (status, made) = json(api.send("POST", "/runs/batch", &format!("[{good}, {good}]")).await).await;
    assert_eq!((status, made.as_array().unwrap().len()), (StatusCode::OK, 2));
    let started = [api.runtime.next_run().await, api.runtime.next_run().await];
    let ids: Vec<_> = started.iter().map(|run| json!(run.job.run_id())).collect();
    assert_eq!(ids, [made[0]["run_id"].clone(), made[1]["run_id"].clone()]);
    assert!(api.runtime.started_run().await.is_none());
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let limits = HttpLimits { body_silence: Duration::from_millis(50), ..HttpLimits::default() };
    let cors = Flags::parse_from(["test"]).server.cors(None);
    let api = Api::start_with(OperatorAccess::Everybody, HttpOptions::default(), cors, limits).await;
    let thread = api.thread().await;
    let commands = format!("/threads/{thread}/commands");
    for path in ["/threads", "/runs/wait", "/mcp", "/a2a/nobody", "/store/namespaces", &commands] {
        let pieces = stream::iter([Ok::<_, std::io::Error>(Bytes::from("{"))]).chain(stream::pending());
        let request = Request::post(path).header("accept", "application/json").body(Body::from_stream(pieces)).unwrap();
        let answer = tokio::time::timeout(SOON, api.router.clone().oneshot(request)).await.unwrap().unwrap();
        assert_eq!(answer.headers()[header::CONNECTION], "close", "{path}");
        let (status, told) = json(answer).await;
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{path}");
        assert_eq!(told["detail"], "the body brought nothing for 0.05 s; send it again, and faster", "{path}");
    }
    // An answer that says nothing for longer is none of its business.
    let waiting = api.send("POST", "/runs/wait", r#"{"assistant_id": "echo", "input": {}}"#).await;
    let run = api.runtime.next_run().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    run.succeed(&json!({ "x": 1 }));
    assert_eq!(json(waiting).await, (StatusCode::OK, json!({ "x": 1 })));
}

#[tokio::test]
async fn a_body_that_only_holds_its_connection_is_not_waited_for() {
    let limits = HttpLimits { body_within: Duration::from_millis(200), ..HttpLimits::default() };
    let cors = Flags::parse_from(["test"]).server.cors(None);
    let api = Api::start_with(OperatorAccess::Everybody, HttpOptions::default(), cors, limits).await;
    let drops = stream::unfold((), async |()| {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from(" ")), ()))
    });
    let request = Request::post("/threads").body(Body::from_stream(drops)).unwrap();
    let answer = tokio::time::timeout(SOON, api.router.clone().oneshot(request)).await.unwrap().unwrap();
    assert_eq!(answer.headers()[header::CONNECTION], "close");
    let (status, told) = json(answer).await;
    let why = "the body is not here after 0.2 s and a second for each KiB; send it again, and faster";
    assert_eq!((status, &told["detail"]), (StatusCode::REQUEST_TIMEOUT, &json!(why)));
}
