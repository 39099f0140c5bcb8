//! How searches filter JSON, independent of SQL: by containment (metadata and values), or by conditions (store items).

use std::cmp::Ordering;

use serde_json::Value;

/// Whether a value satisfies a condition of a store's filter: operators such as `$gt`, conditions on the fields of an
/// object, or a value to equal. A field that is missing counts as null.
pub fn satisfies(found: &Value, condition: &Value) -> bool {
    match condition {
        Value::Object(operators) if operators.keys().any(|key| key.starts_with('$')) => {
            operators.iter().all(|(operator, wanted)| compares(found, operator, wanted))
        }
        Value::Object(fields) => {
            found.is_object()
                && fields.iter().all(|(field, wanted)| satisfies(found.get(field).unwrap_or(&Value::Null), wanted))
        }
        Value::Array(conditions) => found.as_array().is_some_and(|found| {
            found.len() == conditions.len()
                && found.iter().zip(conditions).all(|(found, wanted)| satisfies(found, wanted))
        }),
        wanted => equals(found, wanted),
    }
}

fn compares(found: &Value, operator: &str, wanted: &Value) -> bool {
    match operator {
        "$eq" => equals(found, wanted),
        "$ne" => !equals(found, wanted),
        "$gt" => order(found, wanted) == Some(Ordering::Greater),
        "$gte" => order(found, wanted).is_some_and(Ordering::is_ge),
        "$lt" => order(found, wanted) == Some(Ordering::Less),
        "$lte" => order(found, wanted).is_some_and(Ordering::is_le),
        _ => false,
    }
}

/// Equality as Python has it: `1` and `1.0` are one number.
fn equals(found: &Value, wanted: &Value) -> bool {
    found == wanted || found.is_number() && wanted.is_number() && order(found, wanted) == Some(Ordering::Equal)
}

fn order(found: &Value, wanted: &Value) -> Option<Ordering> {
    match (found, wanted) {
        (Value::String(found), Value::String(wanted)) => Some(found.cmp(wanted)),
        _ => number(found)?.partial_cmp(&number(wanted)?),
    }
}

/// A number, also one that is written as text.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

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
    fn conditions_of_a_store_reach_into_values() {
        let value = json!({"n": 2, "text": "10", "tags": ["a", {"x": 1}], "nested": {"score": 0.5, "deep": {"x": 1}}});
        for (condition, expected) in [
            (json!({}), true),
            (json!({"n": 2.0}), true),
            (json!({"n": {"$ne": 2.0}}), false),
            (json!({"text": {"$gt": 9}}), true),
            (json!({"text": {"$gt": "9"}}), false),
            (json!({"nested": {"score": {"$gte": 0.5, "$lt": 1}}}), true),
            (json!({"nested": {"score": {"$gt": 0.5}}}), false),
            (json!({"nested": {"missing": null}}), true),
            (json!({"nested": {"deep": {"x": 1}}}), true),
            (json!({"n": {"deep": 1}}), false),
            (json!({"tags": ["a"]}), false),
            (json!({"tags": ["a", {"x": {"$lte": 1}}]}), true),
            (json!({"n": {"$like": 2}}), false),
        ] {
            assert_eq!(satisfies(&value, &condition), expected, "{condition}");
        }
    }

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
