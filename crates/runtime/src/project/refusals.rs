//! What a configuration asks for, and this server can't do: said by name, since serving the rest would be something else.

use threadyard_core::{json::Value, runtime::Language};

use super::{Graph, Project, document::Wrong, sections::Sections};
use crate::language;

/// Keys without which a project would be served differently, or less safely, than its author means.
const REFUSED_KEYS: [&str; 2] = ["serde", "priority"];

/// Refuses what would change what is served, and can't be done.
pub(super) fn of_sections(sections: &Sections) -> Result<(), Wrong> {
    const ROUTE_AUTH: &str = "enable_custom_route_auth";
    if sections.below("http", ROUTE_AUTH) == Some(&Value::Bool(true)) && sections.get("auth").is_none() {
        let why = "needs `auth`, which says how callers are told apart";
        return Err(Wrong::new(format!("http.{ROUTE_AUTH}"), why));
    }
    if let Some(key) = REFUSED_KEYS.into_iter().find(|key| sections.get(key).is_some()) {
        return Err(Wrong::unsupported(key));
    }
    for (section, known) in [("store", &["ttl", "index"][..]), ("checkpointer", &["ttl", "backend", "serde"])] {
        let keys = sections.object(section)?.and_then(Value::as_object).into_iter().flatten();
        let mut said = keys.filter(|(_, value)| !value.is_null());
        if let Some((key, _)) = said.find(|(key, _)| !known.contains(&key.as_str())) {
            let whole = format!("{section}.{key}");
            return Err(if key == "path" { Wrong::unsupported(whole) } else { Wrong::unknown(whole) });
        }
    }
    match sections.below("checkpointer", "backend") {
        None => Ok(()),
        Some(backend) if backend == "default" => Ok(()),
        Some(_) => Err(Wrong::unsupported("checkpointer.backend")),
    }
}

/// Refuses rules for classes where no graph has any: those of JavaScript become what they were by other means.
pub(super) fn of_foreign_serde(project: &Project) -> Result<(), Wrong> {
    let python = project.graphs.iter().any(|graph| graph.language() == Language::Python);
    match (&project.serde, project.graphs.first()) {
        (Some(_), Some(Graph { id, path, .. })) if !python => {
            let why =
                format!("is about classes of Python, and the graph `{id}` (`{path}`) is in JavaScript; leave it out");
            Err(Wrong::new("checkpointer.serde", why))
        }
        _ => Ok(()),
    }
}

/// Refuses an index that graphs in another language would write past: what they store is to be found, too.
pub(super) fn of_foreign_index(project: &Project) -> Result<(), Wrong> {
    let Some(embed) = project.embed() else { return Ok(()) };
    match project.graphs.iter().find(|graph| graph.language() != language::of(embed)) {
        Some(Graph { id, path, .. }) => {
            let refused = Wrong::unsupported_in(language::of(embed), "store.index.embed", embed);
            Err(Wrong { why: format!("{} for the graph `{id}` (`{path}`)", refused.why), ..refused })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::serde_rules::{Classes, SerdeRules};

    #[test]
    fn rules_for_classes_of_python_are_for_graphs_in_python() {
        let rules = |graphs: &str| {
            let text = format!(
                r#"{{"graphs": {{{graphs}}}, "checkpointer": {{"serde": {{"allowed_msgpack_modules": null}}}}}}"#
            );
            let read = Sections::of_file(Path::new("/p/langgraph.json"), text)
                .and_then(|sections| Project::read(sections, "/p/langgraph.json".into(), "/p".into()));
            read.map(|project| project.serde).map_err(|error| error.to_string())
        };
        let strict = SerdeRules { msgpack: Some(Classes::Each(false)), ..SerdeRules::default() };
        assert_eq!(rules(r#""a": "./a.py:g", "b": "./b.ts:g""#), Ok(Some(strict)));
        assert!(rules(r#""b": "./b.ts:g""#).unwrap_err().contains("`checkpointer.serde`"));
    }
}
