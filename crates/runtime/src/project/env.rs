//! What `langgraph.json` says of environment variables: `env`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use threadyard_core::json::Value;

use super::document::Wrong;

/// Where environment variables for the graphs come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Env {
    /// A file of `NAME=value` lines.
    File(PathBuf),
    /// The configuration itself.
    Map(BTreeMap<String, String>),
}

impl Default for Env {
    fn default() -> Self {
        Self::Map(BTreeMap::new())
    }
}

/// The variables of a project.
pub(crate) fn env(env: Option<&Value>, folder: &Path) -> Result<Env, Wrong> {
    match env {
        None => Ok(Env::default()),
        Some(Value::String(file)) if folder.join(file).is_file() => Ok(Env::File(folder.join(file))),
        Some(Value::String(file)) => Err(Wrong::new("env", format!("names the file `{file}`, which does not exist"))),
        Some(Value::Object(map)) => {
            let text = |(name, value): (&String, &Value)| match value {
                _ if name.is_empty() || name.contains(['=', '\0']) => {
                    Err(Wrong::new(format!("env.{name}"), "is no name of a variable"))
                }
                Value::String(value) if value.contains('\0') => {
                    Err(Wrong::new(format!("env.{name}"), "can't hold the character U+0000"))
                }
                Value::String(value) => Ok((name.clone(), value.clone())),
                Value::Number(_) | Value::Bool(_) => Ok((name.clone(), value.to_string())),
                _ => Err(Wrong::new(format!("env.{name}"), "must be a text")),
            };
            map.iter().map(text).collect::<Result<_, _>>().map(Env::Map)
        }
        Some(_) => Err(Wrong::new("env", "must be the path of a file or a map of texts")),
    }
}
