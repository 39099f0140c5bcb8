//! What `langgraph.json` says of components that graphs show: `ui` and `ui_config`.

use std::collections::BTreeMap;

use serde::Deserialize;
use threadyard_core::json::Value;

use super::document::{Wrong, read};

/// Components that are bundled for pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UiOptions {
    /// The file of each bundle, by the name that pages ask for it with.
    pub bundles: BTreeMap<String, String>,
    /// Modules that the page brings along, beside React and the SDK.
    pub shared: Vec<String>,
}

/// `ui_config`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct UiConfig {
    shared: Vec<String>,
}

/// The bundles, if there are any, and the keys that nothing reads.
pub(crate) fn options(
    ui: Option<&Value>,
    config: Option<&Value>,
    unknown: &mut Vec<String>,
) -> Result<Option<UiOptions>, Wrong> {
    let config = config.map(|config| read::<UiConfig>("ui_config", config, unknown)).transpose()?;
    let bundles = ui.and_then(Value::as_object).into_iter().flatten();
    let bundles: BTreeMap<_, _> = bundles.map(|(name, file)| bundle(name, file)).collect::<Result<_, _>>()?;
    let shared = config.unwrap_or_default().shared;
    Ok((!bundles.is_empty()).then_some(UiOptions { bundles, shared }))
}

fn bundle(name: &str, file: &Value) -> Result<(String, String), Wrong> {
    // It is the name of a folder and part of a path.
    let is_plain = !matches!(name, "" | "." | "..") && !name.contains(|it: char| it.is_control() || "/\\".contains(it));
    if !is_plain {
        return Err(Wrong::new(format!("ui.{name}"), "must be a plain name without slashes, such as that of a graph"));
    }
    match file.as_str() {
        Some(file) if !file.is_empty() => Ok((name.to_owned(), file.to_owned())),
        _ => Err(Wrong::new(format!("ui.{name}"), "must be a file of components such as \"./src/agent/ui.tsx\"")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bundles_have_plain_names_and_files() {
        let read = |ui, config| options(Some(&ui), Some(&config), &mut Vec::new());
        let wrong = |ui| read(ui, json!({})).unwrap_err().key;
        let all = read(json!({"agent": "./ui.tsx", "my.other-ui": "./other.jsx"}), json!({"shared": ["zod"]}));
        let all = all.unwrap().unwrap();
        assert_eq!(all.bundles["my.other-ui"], "./other.jsx");
        assert_eq!(all.shared, ["zod"]);
        assert_eq!(read(json!({}), json!({"shared": ["zod"]})), Ok(None));
        for name in ["", ".", "..", "../a", "a/b", "a\\b", "a\u{0}"] {
            assert_eq!(wrong(json!({ name: "./ui.tsx" })), format!("ui.{name}"));
        }
        assert_eq!(wrong(json!({"agent": ""})), "ui.agent");
        assert_eq!(wrong(json!({"agent": {"path": "./ui.tsx"}})), "ui.agent");
        assert_eq!(read(json!({"a": "./ui.tsx"}), json!({"shared": "zod"})).unwrap_err().key, "ui_config.shared");
    }
}
