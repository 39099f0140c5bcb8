//! What `langgraph.json` says that the project's code needs: `node_version` and `dependencies`.

use std::path::Path;

use threadyard_core::json::Value;

use super::document::{self, Wrong};

/// The major version of Node, such as "20".
pub(super) fn node_version(version: Option<&Value>) -> Result<Option<u32>, Wrong> {
    let Some(version) = version else { return Ok(None) };
    let major = version.as_str().and_then(|text| text.split('.').next()?.parse().ok());
    major.map(Some).ok_or_else(|| Wrong::new("node_version", "must be a major version such as \"20\""))
}

/// Folders and packages; a folder has to be there.
pub(super) fn dependencies(dependencies: Option<&Value>, folder: &Path) -> Result<Vec<String>, Wrong> {
    let Some(dependencies) = dependencies else { return Ok(Vec::new()) };
    let dependencies: Vec<String> = document::read("dependencies", dependencies, &mut Vec::new())?;
    let is_local = |it: &String| it.starts_with('.') || it.starts_with('/');
    match dependencies.iter().position(|it| is_local(it) && !folder.join(it).exists()) {
        Some(absent) => {
            let why = format!("names `{}`, which does not exist", dependencies[absent]);
            Err(Wrong::new(format!("dependencies[{absent}]"), why))
        }
        None => Ok(dependencies),
    }
}
