//! The OpenAPI document of this API: a file for each noun, and what they share in `document.json`.

use std::sync::{Arc, LazyLock};

use axum::{Extension, Json};
use serde_json::{Value, json};
use threadyard_runtime::CustomApp;

use super::edge::HttpSettings;

const NOUNS: [&str; 10] = [
    include_str!("openapi/assistants.json"),
    include_str!("openapi/threads.json"),
    include_str!("openapi/runs.json"),
    include_str!("openapi/event_streaming.json"),
    include_str!("openapi/crons.json"),
    include_str!("openapi/store.json"),
    include_str!("openapi/agents.json"),
    include_str!("openapi/ui.json"),
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

/// The document of a server, as it serves it.
#[derive(Clone)]
pub(super) struct Documents {
    shown: Arc<Value>,
    app: Option<Arc<CustomApp>>,
}

impl Documents {
    /// Leaves out what is not served.
    pub(super) fn new(is_served: impl Fn(&str) -> bool, http: &HttpSettings) -> Self {
        let mut document = document().clone();
        if !http.options.mount_prefix.is_empty() {
            document["servers"] = json!([{ "url": http.options.mount_prefix }]);
        }
        if let Some(paths) = document["paths"].as_object_mut() {
            paths.retain(|path, _| is_served(path));
        }
        if let Some(auth) = &http.auth_openapi {
            merge(&mut document, documented(auth));
        }
        Self { shown: Arc::new(document), app: http.app.clone() }
    }

    /// The document, with what the project's application serves now.
    pub(super) fn document(&self) -> Arc<Value> {
        let of_app = self.app.as_ref().and_then(|app| serde_json::from_str(app.openapi()?.get()).ok());
        let Some(of_app) = of_app else { return self.shown.clone() };
        Arc::new(with_app(&self.shown, of_app))
    }
}

/// Adds the paths of the application, which win, and its shapes, which get other names where theirs are taken.
fn with_app(document: &Value, mut app: Value) -> Value {
    let mut document = document.clone();
    let taken = |name: &str| document["components"]["schemas"].get(name).is_some();
    let names = app["components"]["schemas"].as_object().into_iter().flat_map(|schemas| schemas.keys());
    let taken: Vec<String> = names.filter(|name| taken(name)).cloned().collect();
    rename(&mut app, &taken);
    if let Some(Value::Object(schemas)) = app["components"].get_mut("schemas").map(Value::take) {
        for (name, schema) in schemas {
            let name = if taken.contains(&name) { renamed(&name) } else { name };
            document["components"]["schemas"][name] = schema;
        }
    }
    if let Value::Object(paths) = app["paths"].take() {
        for (path, operations) in paths {
            let Value::Object(operations) = operations else { continue };
            for (method, mut operation) in operations {
                if operation.is_object() {
                    tag(&mut document, &mut operation);
                }
                document["paths"][&path][method] = operation;
            }
        }
    }
    document
}

/// Sees to it that an operation of the application belongs to a group that is shown.
fn tag(document: &mut Value, operation: &mut Value) {
    if operation["tags"][0].is_null() {
        operation["tags"] = json!(["App"]);
    }
    let name = operation["tags"][0].clone();
    if let Value::Array(tags) = &mut document["tags"]
        && !tags.iter().any(|tag| tag["name"] == name)
    {
        tags.push(json!({ "name": name, "description": "Of the project's own application." }));
    }
}

fn renamed(name: &str) -> String {
    format!("{name}OfApp")
}

/// Has references to shapes lead to their new names.
fn rename(value: &mut Value, taken: &[String]) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(place)) = object.get_mut("$ref")
                && let Some(name) =
                    place.strip_prefix("#/components/schemas/").filter(|it| taken.iter().any(|t| t == it))
            {
                *place = format!("#/components/schemas/{}", renamed(name));
            }
            object.values_mut().for_each(|value| rename(value, taken));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| rename(value, taken)),
        _ => {}
    }
}

pub(super) async fn get(Extension(documents): Extension<Documents>) -> Json<Arc<Value>> {
    Json(documents.document())
}

/// What a project says of its authentication, where it belongs in the document.
fn documented(auth: &Value) -> Value {
    let mut more = json!({});
    if let Some(schemes) = auth.get("securitySchemes") {
        more["components"] = json!({ "securitySchemes": schemes });
    }
    for key in ["security", "paths"] {
        if let Some(said) = auth.get(key) {
            more[key] = said.clone();
        }
    }
    more
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_adds_paths_and_shapes_without_taking_names() {
        let app = json!({
            "paths": {"/hello": {"get": {"of": {"$ref": "#/components/schemas/Run"}}}, "/info": {"get": {"mine": true}}},
            "components": {"schemas": {"Run": {"title": "R"}, "Hello": {"items": {"$ref": "#/components/schemas/Run"}}}},
        });
        let all = with_app(document(), app);
        assert_eq!(all["paths"]["/hello"]["get"]["of"]["$ref"], "#/components/schemas/RunOfApp");
        assert_eq!(all["paths"]["/info"]["get"]["mine"], true);
        assert_eq!(all["paths"]["/hello"]["get"]["tags"], json!(["App"]));
        assert!(all["tags"].as_array().unwrap().iter().any(|tag| tag["name"] == "App"));
        assert_eq!(all["components"]["schemas"]["RunOfApp"]["title"], "R");
        assert_eq!(all["components"]["schemas"]["Hello"]["items"]["$ref"], "#/components/schemas/RunOfApp");
        assert_eq!(all["components"]["schemas"]["Run"], document()["components"]["schemas"]["Run"]);
        assert!(all["paths"]["/threads"].is_object());
    }
}
