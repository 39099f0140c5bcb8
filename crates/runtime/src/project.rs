//! The user's project: what `langgraph.json` says, and what of it this server can honour.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use threadyard_core::{
    items::{ItemIndex, ItemTtl},
    json::{Object, Value},
    retention::ThreadTtl,
};

use crate::{
    environment, index,
    retention::{self, SweepChoice},
    webhooks::{self, WebhookRules},
};

/// A project with its configuration.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder of the configuration file, absolute; paths are relative to it.
    pub folder: PathBuf,
    /// The configuration file itself.
    pub file: PathBuf,
    /// The graphs, in the order of the file.
    pub graphs: Vec<Graph>,
    /// What the graphs need: folders of the project and packages.
    pub dependencies: Vec<String>,
    /// Environment variables for the graphs.
    pub env: Env,
    /// Whether the end of a run is told to its webhook.
    pub webhooks_enabled: bool,
    /// Where webhooks may go, and what they carry.
    pub webhooks: WebhookRules,
    /// How long threads are kept, unless who makes them says otherwise.
    pub thread_ttl: Option<ThreadTtl>,
    /// How often threads whose time is over are looked for, and how many at once.
    pub sweep: SweepChoice,
    /// How long store items are kept.
    pub item_ttl: ItemTtl,
    /// How often items whose time is over are looked for.
    pub item_sweep: SweepChoice,
    /// How items are found by their meaning, if they are.
    pub item_index: Option<ItemIndex>,
    /// Keys that do nothing here, to be told once.
    pub without_effect: Vec<String>,
}

/// A graph that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// Its id.
    pub id: String,
    /// `./file.py:name` or `package.module:name`.
    pub path: String,
    /// What it is for.
    pub description: Option<String>,
}

/// Where environment variables for the graphs come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Env {
    /// A file of `NAME=value` lines.
    File(PathBuf),
    /// The configuration itself.
    Map(BTreeMap<String, String>),
}

/// Why a project can't be served.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// There is no configuration.
    #[error("`{0}` does not exist; run this in a folder with a langgraph.json, or name one with --config")]
    Missing(PathBuf),
    /// It can't be read.
    #[error("`{file}` can't be read: {source}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// It is not what a configuration looks like.
    #[error("`{file}`: {why}")]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It asks for something that would change what is served, and that this server can't do yet.
    #[error("`{file}`: `{key}` is not supported yet; remove it to go on without it (see docs/COMPATIBILITY.md)")]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
    },
}

#[derive(Deserialize)]
struct File {
    graphs: serde_json::Map<String, Value>,
    #[serde(default)]
    dependencies: Vec<String>,
    #[serde(default)]
    env: Option<Value>,
    #[serde(default)]
    http: Object,
    #[serde(default)]
    store: Object,
    #[serde(default)]
    checkpointer: Object,
    #[serde(default)]
    webhooks: Option<Value>,
}

/// Keys that matter for building images only.
const IMAGE_KEYS: [&str; 15] = [
    "$schema",
    "api_version",
    "base_image",
    "dockerfile_lines",
    "image_distro",
    "keep_pkg_tools",
    "name",
    "node_version",
    "pip_config_file",
    "pip_installer",
    "python_version",
    "source",
    "ui",
    "ui_config",
    "internal_docker_tag",
];
/// Keys without which a project would be served differently, or less safely, than its author means.
const REFUSED_KEYS: [&str; 3] = ["auth", "encryption", "serde"];
/// Graphs in these files need a worker that does not exist yet.
const SCRIPTS: [&str; 7] = [".ts:", ".tsx:", ".mts:", ".cts:", ".js:", ".mjs:", ".cjs:"];
const KNOWN_KEYS: [&str; 7] = ["graphs", "dependencies", "env", "http", "store", "checkpointer", "webhooks"];

impl Project {
    /// Reads a configuration file.
    pub fn load(file: &Path) -> Result<Self, ProjectError> {
        if !file.is_file() {
            return Err(ProjectError::Missing(file.into()));
        }
        let unreadable = |source| ProjectError::Unreadable { file: file.into(), source };
        let file = file.canonicalize().map_err(unreadable)?;
        let text = std::fs::read_to_string(&file).map_err(unreadable)?;
        let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
        Self::read(&text, &file, folder)
    }

    fn read(text: &str, file: &Path, folder: PathBuf) -> Result<Self, ProjectError> {
        let invalid = |why: String| ProjectError::Invalid { file: file.into(), why };
        let unsupported = |key: String| Err(ProjectError::Unsupported { file: file.into(), key });
        let keys: Object = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let known: File = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        if let Some(key) = REFUSED_KEYS.into_iter().find(|key| keys.contains_key(*key)) {
            return unsupported(key.into());
        }
        if let Some(key) = known.store.keys().find(|key| !["ttl", "index"].contains(&key.as_str())) {
            return unsupported(format!("store.{key}"));
        }
        let (item_ttl, item_sweep) = retention::items(known.store.get("ttl")).map_err(invalid)?;
        let item_index = index::items(known.store.get("index")).map_err(invalid)?;
        if let Some(key) = known.checkpointer.keys().find(|key| *key != "ttl") {
            return unsupported(format!("checkpointer.{key}"));
        }
        let (thread_ttl, sweep) = retention::threads(known.checkpointer.get("ttl")).map_err(invalid)?;
        if let Some(key) = known.http.keys().find(|key| *key != "disable_webhooks") {
            return unsupported(format!("http.{key}"));
        }
        let webhooks_enabled = match known.http.get("disable_webhooks") {
            None => true,
            Some(Value::Bool(disabled)) => !disabled,
            Some(_) => return Err(invalid("http.disable_webhooks must be true or false".into())),
        };
        let without_effect = without_effect(&keys);
        let is_local = |dependency: &&String| dependency.starts_with('.') || dependency.starts_with('/');
        if let Some(absent) = known.dependencies.iter().filter(is_local).find(|local| !folder.join(local).exists()) {
            return Err(invalid(format!("`dependencies` names `{absent}`, which does not exist")));
        }
        let graphs = known.graphs.into_iter().map(|(id, entry)| graph(id, entry)).collect::<Result<Vec<_>, _>>();
        let graphs = graphs.map_err(invalid)?;
        if graphs.is_empty() {
            return Err(invalid(
                "`graphs` is empty; name at least one, such as {\"agent\": \"./agent.py:graph\"}".into(),
            ));
        }
        let is_script = |graph: &&Graph| SCRIPTS.iter().any(|extension| graph.path.contains(extension));
        if let Some(script) = graphs.iter().find(is_script) {
            return unsupported(format!("graphs.{}: {}", script.id, script.path));
        }
        let env = env(known.env, &folder).map_err(invalid)?;
        let variable = |name: &str| environment::variable(&env, name);
        let webhooks = webhooks::rules(known.webhooks, variable).map_err(invalid)?;
        Ok(Self {
            webhooks,
            env,
            dependencies: known.dependencies,
            graphs,
            webhooks_enabled,
            thread_ttl,
            sweep,
            item_ttl,
            item_sweep,
            item_index,
            without_effect,
            file: file.into(),
            folder,
        })
    }
}

/// Keys that do nothing here. Those that are not even known are warned of.
fn without_effect(keys: &Object) -> Vec<String> {
    let others: Vec<_> = keys.keys().filter(|key| !KNOWN_KEYS.contains(&key.as_str())).cloned().collect();
    for key in others.iter().filter(|key| !IMAGE_KEYS.contains(&key.as_str())) {
        tracing::warn!(key, "the configuration has a key that this server does not know");
    }
    others
}

fn graph(id: String, entry: Value) -> Result<Graph, String> {
    let (path, description) = match entry {
        Value::String(path) => (path, None),
        Value::Object(mut entry) => {
            let Some(Value::String(path)) = entry.remove("path") else {
                return Err(format!("graphs.{id} must have a `path` such as \"./agent.py:graph\""));
            };
            let description = entry.remove("description").and_then(|text| text.as_str().map(str::to_owned));
            (path, description)
        }
        _ => return Err(format!("graphs.{id} must be a path such as \"./agent.py:graph\", or an object with `path`")),
    };
    if !path.contains(':') {
        return Err(format!(
            "graphs.{id}: `{path}` must name a file or module and a graph in it, such as \"./agent.py:graph\""
        ));
    }
    Ok(Graph { id, path, description })
}

fn env(env: Option<Value>, folder: &Path) -> Result<Env, String> {
    match env {
        None => Ok(Env::Map(BTreeMap::new())),
        Some(Value::String(file)) if folder.join(&file).is_file() => Ok(Env::File(folder.join(file))),
        Some(Value::String(file)) => Err(format!("`env` names the file `{file}`, which does not exist")),
        Some(Value::Object(map)) => {
            let text = |(name, value)| match value {
                Value::String(value) => Ok((name, value)),
                Value::Number(_) | Value::Bool(_) => Ok((name, value.to_string())),
                _ => Err(format!("env.{name} must be a text")),
            };
            map.into_iter().map(text).collect::<Result<_, _>>().map(Env::Map)
        }
        Some(_) => Err("`env` must be the path of a file or a map of texts".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Project, String> {
        Project::read(text, Path::new("/p/langgraph.json"), "/p".into()).map_err(|error| error.to_string())
    }

    #[test]
    fn both_forms_of_a_graph_are_read_in_order() {
        let project =
            read(r#"{"graphs": {"b": "./b.py:g", "a": {"path": "m:g", "description": "d"}}, "env": {"X": 1}}"#)
                .unwrap();
        let shown: Vec<_> =
            project.graphs.iter().map(|it| (it.id.as_str(), it.path.as_str(), it.description.as_deref())).collect();
        assert_eq!(shown, [("b", "./b.py:g", None), ("a", "m:g", Some("d"))]);
        assert_eq!(project.env, Env::Map([("X".to_owned(), "1".to_owned())].into()));
        assert!(project.webhooks_enabled);
    }

    #[test]
    fn webhooks_can_be_switched_off() {
        let project = read(r#"{"graphs": {"a": "./a.py:g"}, "http": {"disable_webhooks": true}}"#).unwrap();
        assert!(!project.webhooks_enabled);
    }

    #[test]
    fn what_would_change_what_is_served_is_refused_by_name() {
        for (text, named) in [
            (r#"{"graphs": {"a": "./a.py:g"}, "auth": {"path": "./auth.py:auth"}}"#, "`auth`"),
            (r#"{"graphs": {"a": "./a.py:g"}, "http": {"app": "./app.py:app"}}"#, "`http.app`"),
            (r#"{"graphs": {"a": "./a.py:g"}, "store": {"path": "x"}}"#, "`store.path`"),
            (r#"{"graphs": {"a": "./a.py"}}"#, "graphs.a"),
            (r#"{"graphs": {"a": {}}}"#, "graphs.a"),
            (r#"{"graphs": {"a": "./a.ts:g"}}"#, "`graphs.a: ./a.ts:g`"),
            (r#"{"graphs": {"a": "./a.py:g"}, "dependencies": ["./gone"]}"#, "`./gone`"),
            (r#"{"graphs": {"a": "./a.py:g"}, "env": "gone.env"}"#, "`gone.env`"),
            (r#"{"graphs": {}}"#, "`graphs` is empty"),
            (r#"{"graphs": "#, "EOF"),
            ("{}", "missing field `graphs`"),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(named), "{text}: {why}");
        }
    }
}
