//! The OpenAPI document against the routes and what they answer.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use serde_json::{Value, json};
use threadyard::api::{SERVED, document};

use crate::{Api, json};

/// The method, path and description of every operation.
fn operations() -> Vec<(&'static str, &'static str, &'static Value)> {
    let paths = document()["paths"].as_object().unwrap();
    let methods = |(path, methods): (&'static String, &'static Value)| {
        methods.as_object().unwrap().iter().map(move |(method, it)| (method.as_str(), path.as_str(), it))
    };
    paths.iter().flat_map(methods).collect()
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|it| references(it, found));
        }
        Value::Array(list) => list.iter().for_each(|it| references(it, found)),
        _ => {}
    }
}

#[test]
fn every_route_is_documented_and_nothing_else() {
    let documented: BTreeSet<_> = operations().into_iter().map(|(method, path, _)| (method, path)).collect();
    let served: BTreeSet<_> = SERVED.iter().copied().collect();
    assert_eq!(documented, served);
}

#[test]
fn operations_are_named_once_and_sorted_into_known_groups() {
    let operations = operations();
    let ids: BTreeSet<_> = operations.iter().map(|(_, _, it)| it["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), operations.len());
    let tags: Vec<_> = document()["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    for (method, path, operation) in operations {
        assert!(tags.contains(&&operation["tags"][0]), "{method} {path}");
        let in_path = path.matches('{').count();
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let named = parameters
            .filter(|it| it["in"] == "path" && path.contains(&format!("{{{}}}", it["name"].as_str().unwrap())));
        assert_eq!(named.count(), in_path, "{method} {path}");
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_shape_is_used() {
    let mut found = BTreeSet::new();
    references(document(), &mut found);
    for reference in &found {
        assert!(document().pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    for kind in ["schemas", "responses", "headers"] {
        for name in document()["components"][kind].as_object().unwrap().keys() {
            assert!(found.contains(&format!("#/components/{kind}/{name}")), "{kind}/{name} is not used");
        }
    }
}

/// What is wrong with an answer, as the document sees it.
fn violations(method: &str, path: &str, status: StatusCode, answer: &Value) -> Vec<String> {
    let responses = &document()["paths"][path][method]["responses"];
    let response = &responses[status.as_str()];
    let response = match response["$ref"].as_str() {
        Some(reference) => document().pointer(reference.trim_start_matches('#')).unwrap(),
        None => response,
    };
    if response.is_null() {
        return vec![format!("{method} {path}: {status} is not documented")];
    }
    let schema = &response["content"]["application/json"]["schema"];
    if schema.is_null() && answer.is_null() {
        return Vec::new();
    }
    let whole = json!({ "allOf": [schema], "components": document()["components"] });
    let validator = jsonschema::draft202012::new(&whole).unwrap();
    validator
        .iter_errors(answer)
        .map(|error| format!("{method} {path} {status}: {error} at {}", error.instance_path()))
        .collect()
}

#[tokio::test]
async fn answers_are_as_documented() {
    let api = Api::start().await;
    let thread = api.thread().await;
    let none = "00000000-0000-4000-8000-000000000000";
    let cron = json!({"assistant_id": "echo", "schedule": "0 0 1 1 *", "input": {"a": 1}}).to_string();
    let run = json!({"assistant_id": "echo", "after_seconds": 3600, "stream_mode": ["values", "updates"]}).to_string();
    let command = json!({"id": 1, "method": "run.start", "params": {"assistant_id": "unknown"}}).to_string();
    let item = json!({"namespace": ["a", "b"], "key": "k", "value": {"n": 1}}).to_string();
    api.send("PUT", "/store/items", &item).await;
    let made = json(api.send("POST", &format!("/threads/{thread}/runs"), &run).await).await.1;
    let run_id = made["run_id"].as_str().unwrap();
    for (method, path, place, body) in [
        ("post", "/assistants", "/assistants".to_owned(), json!({"graph_id": "echo"}).to_string()),
        ("post", "/assistants", "/assistants".to_owned(), json!({"graph_id": "unknown"}).to_string()),
        ("post", "/assistants/search", "/assistants/search".to_owned(), "{}".to_owned()),
        ("post", "/assistants/count", "/assistants/count".to_owned(), "{}".to_owned()),
        ("get", "/assistants/{assistant_id}", format!("/assistants/{none}"), String::new()),
        ("get", "/assistants/{assistant_id}", "/assistants/x".to_owned(), String::new()),
        ("get", "/threads/{thread_id}", format!("/threads/{thread}"), String::new()),
        ("post", "/threads", "/threads".to_owned(), json!({"thread_id": thread}).to_string()),
        ("post", "/threads", "/threads".to_owned(), "[".to_owned()),
        ("post", "/threads/search", "/threads/search".to_owned(), json!({"extract": {"a": "values.a"}}).to_string()),
        ("post", "/threads/search", "/threads/search".to_owned(), json!({"ids": ["x"]}).to_string()),
        ("get", "/threads/{thread_id}/storage", format!("/threads/{thread}/storage"), String::new()),
        ("post", "/threads/prune", "/threads/prune".to_owned(), json!({"thread_ids": []}).to_string()),
        ("post", "/threads/{thread_id}/runs", format!("/threads/{thread}/runs"), run.clone()),
        ("get", "/threads/{thread_id}/runs", format!("/threads/{thread}/runs"), String::new()),
        ("get", "/threads/{thread_id}/runs/{run_id}", format!("/threads/{thread}/runs/{run_id}"), String::new()),
        ("delete", "/threads/{thread_id}/runs/{run_id}", format!("/threads/{thread}/runs/{run_id}"), String::new()),
        ("post", "/threads/{thread_id}/commands", format!("/threads/{thread}/commands"), "{}".to_owned()),
        ("post", "/threads/{thread_id}/commands", format!("/threads/{thread}/commands"), command),
        ("post", "/threads/{thread_id}/stream/events", format!("/threads/{thread}/stream/events"), "{}".to_owned()),
        ("post", "/runs", "/runs".to_owned(), run.clone()),
        ("post", "/runs/batch", "/runs/batch".to_owned(), format!("[{run}]")),
        ("post", "/runs/crons", "/runs/crons".to_owned(), cron.clone()),
        ("post", "/threads/{thread_id}/runs/crons", format!("/threads/{thread}/runs/crons"), cron),
        ("post", "/runs/crons/search", "/runs/crons/search".to_owned(), "{}".to_owned()),
        ("patch", "/runs/crons/{cron_id}", format!("/runs/crons/{none}"), json!({"enabled": false}).to_string()),
        ("get", "/store/items", "/store/items?namespace=a.b&key=k".to_owned(), String::new()),
        ("get", "/store/items", "/store/items?namespace=a.b&key=none".to_owned(), String::new()),
        (
            "post",
            "/store/items/search",
            "/store/items/search".to_owned(),
            json!({"namespace_prefix": ["a"]}).to_string(),
        ),
        ("post", "/store/namespaces", "/store/namespaces".to_owned(), "{}".to_owned()),
        ("get", "/webhooks/secret", "/webhooks/secret?origin=https://example.com".to_owned(), String::new()),
        ("post", "/webhooks/secret/rotate", "/webhooks/secret/rotate".to_owned(), "{}".to_owned()),
        ("get", "/webhooks/public-key", "/webhooks/public-key".to_owned(), String::new()),
        ("get", "/info", "/info".to_owned(), String::new()),
        ("get", "/ok", "/ok".to_owned(), String::new()),
        ("get", "/openapi.json", "/openapi.json".to_owned(), String::new()),
    ] {
        let (status, answer) = json(api.send(&method.to_uppercase(), &place, &body).await).await;
        assert_eq!(violations(method, path, status, &answer), [""; 0], "{answer}");
    }
    let broken = json!({"thread_id": 1});
    assert_ne!(violations("get", "/threads/{thread_id}", StatusCode::OK, &broken), [""; 0]);
}

#[tokio::test]
async fn the_page_for_people_tells_everything_by_itself() {
    let api = Api::start().await;
    let answer = api.send("GET", "/docs", "").await;
    let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let page = String::from_utf8(bytes.to_vec()).unwrap();
    // There is nothing of the kind without components.
    for (method, path, operation) in operations().into_iter().filter(|(_, path, _)| !path.starts_with("/ui/")) {
        let shown = format!("{}</b> <code>{path}</code>", method.to_uppercase());
        assert!(page.contains(&shown), "{shown}");
        assert!(page.contains(&format!("id=\"{}\"", operation["operationId"].as_str().unwrap())));
    }
    for elsewhere in ["src=", "href=\"http", "@import", "<script"] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
    for name in document()["components"]["schemas"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("<details id=\"{name}\">")), "{name}");
    }
}
