//! Containment of JSON, the filter that searches by metadata and values use, independent of SQL.

use serde_json::Value;

/// Whether `document` contains `pattern`: objects match key by key, lists match when each wanted element is contained in
/// some element, everything else must be equal.
pub fn contains(document: &Value, pattern: &Value) -> bool {
    match (document, pattern) {
        (Value::Object(document), Value::Object(pattern)) => {
            pattern.iter().all(|(key, wanted)| document.get(key).is_some_and(|found| contains(found, wanted)))
        }
        (Value::Array(document), Value::Array(pattern)) => {
            pattern.iter().all(|wanted| document.iter().any(|found| contains(found, wanted)))
        }
        _ => document == pattern,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_match_on_the_given_keys() {
        let document = json!({"a": {"x": 1, "y": 2}, "b": [1, {"c": 3, "d": 4}]});
        for (pattern, expected) in [
            (json!({}), true),
            (json!({"a": {"x": 1}}), true),
            (json!({"a": {"x": 2}}), false),
            (json!({"b": [{"c": 3}]}), true),
            (json!({"b": [2]}), false),
            (json!({"missing": null}), false),
        ] {
            assert_eq!(contains(&document, &pattern), expected, "{pattern}");
        }
    }
}
