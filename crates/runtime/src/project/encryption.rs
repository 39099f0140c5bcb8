//! What `langgraph.json` says of the project's own encryption: `encryption`.

use serde::Deserialize;
use threadyard_core::{json::Value, runtime::Language};

use super::document::{self, Wrong};
use crate::language;

#[derive(Deserialize)]
struct Section {
    path: String,
}

/// Where the object with the handlers is. What a mistyped key was to encrypt would be stored as it is.
pub(super) fn path(section: Option<&Value>) -> Result<Option<String>, Wrong> {
    let Some(section) = section else { return Ok(None) };
    let Section { path } = document::read_all("encryption", section)?;
    if !matches!(path.rsplit_once(':'), Some((source, name)) if !source.is_empty() && !name.is_empty()) {
        let why = format!("`{path}` must be an encryption object such as \"./encryption.py:encryption\"");
        return Err(Wrong::new("encryption.path", why));
    }
    match language::of(&path) {
        Language::Python => Ok(Some(path)),
        Language::Node => Err(Wrong::unsupported_in(Language::Node, "encryption.path", &path)),
    }
}
