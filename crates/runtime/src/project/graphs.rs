//! What `langgraph.json` says of graphs: `graphs`.

use threadyard_core::{json::Value, runtime::Language};

use super::document::Wrong;
use crate::language;

/// A graph that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// Its id.
    pub id: String,
    /// `./file.py:name`, `package.module:name`, or `./file.ts:name`.
    pub path: String,
    /// What it is for.
    pub description: Option<String>,
}

impl Graph {
    /// The language that it is written in.
    pub fn language(&self) -> Language {
        language::of(&self.path)
    }
}

/// The graphs in their order, and the keys that nothing reads.
pub(crate) fn graphs(graphs: Option<&Value>, unknown: &mut Vec<String>) -> Result<Vec<Graph>, Wrong> {
    const SUCH_AS: &str = "name at least one, such as {\"agent\": \"./agent.py:graph\"}";
    let Some(graphs) = graphs else { return Err(Wrong::new("graphs", format!("is missing; {SUCH_AS}"))) };
    let Some(graphs) = graphs.as_object() else {
        return Err(Wrong::new("graphs", format!("must be an object; {SUCH_AS}")));
    };
    if graphs.is_empty() {
        return Err(Wrong::new("graphs", format!("is empty; {SUCH_AS}")));
    }
    graphs.iter().map(|(id, entry)| graph(id, entry, unknown)).collect()
}

fn graph(id: &str, entry: &Value, unknown: &mut Vec<String>) -> Result<Graph, Wrong> {
    if id.is_empty() {
        return Err(Wrong::new("graphs", "has a graph without a name, which nothing could ask for"));
    }
    let key = format!("graphs.{id}");
    let (path, description) = match entry {
        Value::String(path) => (path, None),
        Value::Object(entry) => {
            let others = entry.keys().filter(|it| !["path", "description"].contains(&it.as_str()));
            unknown.extend(others.map(|other| format!("{key}.{other}")));
            let Some(Value::String(path)) = entry.get("path") else {
                return Err(Wrong::new(key, "must have a `path` such as \"./agent.py:graph\""));
            };
            let description = match entry.get("description") {
                None | Some(Value::Null) => None,
                Some(Value::String(text)) => Some(text.clone()),
                Some(_) => return Err(Wrong::new(format!("{key}.description"), "must be a text")),
            };
            (path, description)
        }
        _ => {
            return Err(Wrong::new(key, "must be a path such as \"./agent.py:graph\", or an object with `path`"));
        }
    };
    let named = path.rsplit_once(':').map(|(source, name)| !source.is_empty() && !name.is_empty());
    // A script may export its graph as its default.
    if !named.unwrap_or(language::of(path) != Language::Python) {
        let why = format!("`{path}` must name a file or module and a graph in it, such as \"./agent.py:graph\"");
        return Err(Wrong::new(key, why));
    }
    Ok(Graph { id: id.to_owned(), path: path.clone(), description })
}
