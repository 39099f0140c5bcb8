//! The OpenAPI document of this API: a file for each noun, and what they share in `document.json`.

use std::sync::LazyLock;

use axum::Json;
use serde_json::{Value, json};

const NOUNS: [&str; 7] = [
    include_str!("openapi/assistants.json"),
    include_str!("openapi/threads.json"),
    include_str!("openapi/runs.json"),
    include_str!("openapi/crons.json"),
    include_str!("openapi/store.json"),
    include_str!("openapi/webhooks.json"),
    include_str!("openapi/system.json"),
];

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let read = |text| serde_json::from_str::<Value>(text).expect("the files of the document are JSON");
    let mut document = read(include_str!("openapi/document.json"));
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    for noun in NOUNS {
        merge(&mut document, read(noun));
    }
    document
});

/// The document.
pub fn document() -> &'static Value {
    &DOCUMENT
}

pub(super) async fn get() -> Json<&'static Value> {
    Json(document())
}

/// Adds the keys of objects and the elements of lists.
fn merge(document: &mut Value, more: Value) {
    match (document, more) {
        (Value::Object(document), Value::Object(more)) => {
            for (key, value) in more {
                match document.get_mut(&key) {
                    Some(known) => merge(known, value),
                    None => drop(document.insert(key, value)),
                }
            }
        }
        (Value::Array(document), Value::Array(more)) => document.extend(more),
        (known, more) => *known = more,
    }
}
