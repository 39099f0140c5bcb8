//! Lists of tools and tasks that are longer than a page.

use clap::Parser;
use serde_json::{Value, json};
use threadyard::api::{HttpLimits, OperatorAccess};
use threadyard_core::limits::{PerOwner, RunLimits};
use threadyard_runtime::HttpOptions;

use crate::{Api, Flags, json as read};

async fn call(api: &Api, place: &str, method: &str, params: Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let headers = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    let (_, answer) = read(api.send_with("POST", place, &headers, &body).await).await;
    assert_eq!(answer["error"], Value::Null, "{answer}");
    answer["result"].clone()
}

async fn assistant(api: &Api, name: &str) -> String {
    let body = json!({ "graph_id": "echo", "name": name }).to_string();
    let (status, made) = read(api.send("POST", "/assistants", &body).await).await;
    assert!(status.is_success(), "{made}");
    made["assistant_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_tool_is_listed_once_over_several_pages() {
    let api = Api::start().await;
    for n in 0..230 {
        assistant(&api, &format!("bot {n}")).await;
    }
    // The graph's own assistant has its name, and of others the newest.
    assistant(&api, "echo").await;
    assistant(&api, "bot_7").await;
    let (mut names, mut sizes, mut cursor) = (Vec::new(), Vec::new(), Value::Null);
    loop {
        let page = call(&api, "/mcp", "tools/list", json!({ "cursor": cursor })).await;
        let tools = page["tools"].as_array().unwrap();
        sizes.push(tools.len());
        for tool in tools {
            names.push((tool["name"].as_str().unwrap().to_owned(), tool["title"].as_str().unwrap().to_owned()));
        }
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    // The graphs of the double have assistants of their own.
    let own = names.iter().filter(|(name, _)| !name.starts_with("bot_")).count();
    assert_eq!(names.len(), 230 + own);
    assert_eq!(sizes, [100, 100, names.len() - 200]);
    assert!(names.contains(&("bot_7".into(), "bot_7".into())), "the newest has the name");
    names.dedup_by(|one, other| one.0 == other.0);
    let mut unique: Vec<_> = names.iter().map(|(name, _)| name).collect();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), 230 + own);
}

#[tokio::test]
async fn tasks_of_one_state_are_listed_page_by_page() {
    let api = Api::start().await;
    let agent = assistant(&api, "agent").await;
    let thread = api.thread().await;
    for n in 0..13 {
        let body = json!({
            "assistant_id": agent, "input": { "x": n }, "metadata": { "a2a_message_id": format!("m{n}") },
        });
        let made = api.send("POST", &format!("/threads/{thread}/runs"), &body.to_string()).await;
        assert!(made.status().is_success());
    }
    let first = api.runtime.next_run().await;
    first.succeed(&json!({ "x": 2 }));
    let _second = api.runtime.next_run().await;
    let list = async |params| call(&api, &format!("/a2a/{agent}"), "tasks/list", params).await;
    let ids = |page: &Value| -> Vec<String> {
        page["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
    };
    let waiting = list(json!({ "status": "submitted", "pageSize": 4 })).await;
    assert_eq!((waiting["totalSize"].as_u64(), waiting["nextPageToken"].as_str()), (Some(11), Some("4")));
    let (mut seen, mut token) = (ids(&waiting), waiting["nextPageToken"].clone());
    while token != "" {
        let page = list(json!({ "status": "submitted", "pageSize": 4, "pageToken": token })).await;
        seen.extend(ids(&page));
        token = page["nextPageToken"].clone();
    }
    let all = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((all, seen.len()), (11, 11));
    assert_eq!(list(json!({ "status": "working" })).await["totalSize"], 1);
    assert_eq!(list(json!({ "status": "completed" })).await["totalSize"], 1);
    assert_eq!(list(json!({ "status": "failed" })).await["totalSize"], 0);
}

#[tokio::test]
async fn callers_hear_when_there_may_be_room_for_another_run() {
    let runs = RunLimits { pending: PerOwner { user: Some(0), ..PerOwner::default() }, ..RunLimits::default() };
    let cors = Flags::parse_from(["test"]).server.cors(None);
    let (access, options) = (OperatorAccess::Everybody, HttpOptions::default());
    let api = Api::start_limited(access, options, cors, (HttpLimits::default(), runs)).await;
    let (agent, thread) = (assistant(&api, "agent").await, api.thread().await);
    let message = json!({ "role": "user", "messageId": "m", "parts": [{ "kind": "data", "data": {} }] });
    for (path, status, asked) in [
        ("/runs".to_owned(), 429, json!({ "assistant_id": agent })),
        (
            "/mcp".to_owned(),
            429,
            json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "agent" } }),
        ),
        (
            format!("/a2a/{agent}"),
            429,
            json!({ "jsonrpc": "2.0", "id": 1, "method": "message/send", "params": { "message": message } }),
        ),
        (
            format!("/threads/{thread}/commands"),
            200,
            json!({ "id": 1, "method": "run.start", "params": { "assistant_id": agent } }),
        ),
    ] {
        let headers = [("accept", "application/json")];
        let answer = api.send_with("POST", &path, &headers, &asked.to_string()).await;
        let wait = answer.headers().get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
        let (got, told) = read(answer).await;
        assert_eq!((got.as_u16(), wait.as_deref()), (status, Some("5")), "{path}: {told}");
        if asked["jsonrpc"] == "2.0" {
            assert_eq!((&told["id"], &told["error"]["code"]), (&json!(1), &json!(-32000)), "{path}");
            assert_eq!(told["error"]["data"], json!({ "status": 429, "retry_after": 5 }), "{path}");
        }
    }
}
