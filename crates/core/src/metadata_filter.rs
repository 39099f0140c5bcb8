//! What an authorization handler answers: which metadata a thing must have for its caller to see or touch it.

use serde::Serialize;

use crate::json::{Object, Value};

/// Conditions on metadata, all of which must hold. The default has none and so admits everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetadataFilter(Vec<Condition>);

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    /// The field is there and equals this.
    Equals(String, Value),
    /// The field is a list with all of these among its elements.
    Contains(String, Vec<Value>),
    /// At least one of these holds.
    Any(Vec<MetadataFilter>),
}

/// A filter that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an authorization handler returned a filter that makes no sense: {0}")]
pub struct FilterError(String);

impl MetadataFilter {
    /// Reads the form that handlers write: `{field: value}`, `{field: {"$eq": value}}`, `{field: {"$contains": value or
    /// list}}`, and lists of such objects under `$and` and `$or`.
    pub fn read(written: &Object) -> Result<Self, FilterError> {
        let mut conditions = Vec::new();
        for (key, value) in written {
            match key.as_str() {
                "$and" => conditions.extend(alternatives(key, value)?.into_iter().flat_map(|filter| filter.0)),
                "$or" => conditions.push(Condition::Any(alternatives(key, value)?)),
                operator if operator.starts_with('$') => return Err(unknown(operator)),
                field => conditions.extend(field_conditions(field, value)?),
            }
        }
        Ok(Self(conditions))
    }

    /// Whether it admits everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it admits what has these metadata.
    pub fn admits(&self, metadata: &Object) -> bool {
        self.0.iter().all(|condition| condition.holds(metadata))
    }

    /// Moves those conditions into `pattern` that mean the same as containing it, which searches are quick at, and
    /// returns the others.
    #[must_use]
    pub fn narrowing(self, pattern: &mut Object) -> Self {
        Self(self.0.into_iter().filter_map(|condition| condition.narrow(pattern)).collect())
    }

    /// The form that handlers write.
    pub fn written(&self) -> Value {
        Value::Object(Object::from_iter([("$and".to_owned(), self.0.iter().map(Condition::written).collect())]))
    }

    /// What whoever is admitted contains at least, as alternatives of patterns; `None` when nothing can be said. What
    /// contains none of them is not admitted.
    pub fn patterns(&self) -> Option<Vec<Object>> {
        self.0.iter().find_map(Condition::patterns)
    }
}

impl Serialize for MetadataFilter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written().serialize(serializer)
    }
}

impl Condition {
    fn holds(&self, metadata: &Object) -> bool {
        match self {
            Self::Equals(field, wanted) => metadata.get(field) == Some(wanted),
            Self::Contains(field, wanted) => {
                let found = metadata.get(field).and_then(Value::as_array);
                found.is_some_and(|found| wanted.iter().all(|wanted| found.contains(wanted)))
            }
            Self::Any(filters) => filters.iter().any(|filter| filter.admits(metadata)),
        }
    }

    /// Lays itself into a pattern, or comes back when that would not mean the same.
    fn narrow(self, pattern: &mut Object) -> Option<Self> {
        let (field, wanted) = match &self {
            Self::Equals(field, wanted) if is_plain(wanted) => (field, wanted.clone()),
            Self::Contains(field, wanted) if wanted.iter().all(is_plain) => (field, Value::Array(wanted.clone())),
            _ => return Some(self),
        };
        match pattern.get(field) {
            None => drop(pattern.insert(field.clone(), wanted)),
            Some(known) if *known == wanted => {}
            Some(_) => return Some(self),
        }
        None
    }

    fn patterns(&self) -> Option<Vec<Object>> {
        let one = |field: &String, value| vec![Object::from_iter([(field.clone(), value)])];
        match self {
            Self::Equals(field, wanted) => Some(one(field, wanted.clone())),
            Self::Contains(field, wanted) => Some(one(field, Value::Array(wanted.clone()))),
            Self::Any(filters) => {
                let each: Option<Vec<_>> = filters.iter().map(MetadataFilter::patterns).collect();
                each.map(|patterns| patterns.into_iter().flatten().collect())
            }
        }
    }

    fn written(&self) -> Value {
        let object = |key: &str, value| Value::Object(Object::from_iter([(key.to_owned(), value)]));
        match self {
            Self::Equals(field, wanted) => object(field, object("$eq", wanted.clone())),
            Self::Contains(field, wanted) => object(field, object("$contains", Value::Array(wanted.clone()))),
            Self::Any(filters) => object("$or", filters.iter().map(MetadataFilter::written).collect()),
        }
    }
}

/// Whether containing a value is the same as being equal to it.
fn is_plain(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}

fn unknown(operator: &str) -> FilterError {
    FilterError(format!("`{operator}` is none of $eq, $contains, $and and $or"))
}

fn alternatives(key: &str, value: &Value) -> Result<Vec<MetadataFilter>, FilterError> {
    let list = value.as_array().ok_or_else(|| FilterError(format!("`{key}` must be a list of filters")))?;
    let filter = |value: &Value| match value {
        Value::Object(written) => MetadataFilter::read(written),
        _ => Err(FilterError(format!("`{key}` must be a list of filters"))),
    };
    list.iter().map(filter).collect()
}

/// The conditions on one field.
fn field_conditions(field: &str, value: &Value) -> Result<Vec<Condition>, FilterError> {
    let operators = match value {
        Value::Object(operators) if operators.keys().any(|key| key.starts_with('$')) => operators,
        wanted => return Ok(vec![Condition::Equals(field.into(), wanted.clone())]),
    };
    let condition = |(operator, wanted): (&String, &Value)| match operator.as_str() {
        "$eq" => Ok(Condition::Equals(field.into(), wanted.clone())),
        "$contains" => {
            let wanted = wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
            Ok(Condition::Contains(field.into(), wanted))
        }
        other => Err(unknown(other)),
    };
    operators.iter().map(condition).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        if let Value::Object(object) = value { object } else { unreachable!() }
    }

    fn read(value: Value) -> MetadataFilter {
        MetadataFilter::read(&object(value)).unwrap()
    }

    #[test]
    fn conditions_hold_as_they_are_written() {
        let metadata = object(json!({"owner": "a", "team": {"id": 1, "x": 2}, "tags": ["x", "y"], "none": null}));
        for (filter, expected) in [
            (json!({}), true),
            (json!({"owner": "a"}), true),
            (json!({"owner": "b"}), false),
            (json!({"owner": {"$eq": "a"}}), true),
            (json!({"missing": null}), false),
            (json!({"none": null}), true),
            (json!({"team": {"id": 1}}), false),
            (json!({"team": {"x": 2, "id": 1}}), true),
            (json!({"tags": {"$contains": "x"}}), true),
            (json!({"tags": {"$contains": ["y", "x"]}}), true),
            (json!({"tags": {"$contains": ["x", "z"]}}), false),
            (json!({"owner": {"$contains": "a"}}), false),
            (json!({"owner": "a", "tags": {"$contains": "z"}}), false),
            (json!({"$or": [{"owner": "b"}, {"tags": {"$contains": "x"}}]}), true),
            (json!({"$or": [{"owner": "b"}, {"owner": "c"}]}), false),
            (json!({"$or": []}), false),
            (json!({"$and": [{"owner": "a"}, {"$or": [{"owner": "b"}, {"none": null}]}]}), true),
            (json!({"$and": [{"owner": "a"}, {"owner": "b"}]}), false),
        ] {
            let filter = read(filter);
            assert_eq!(filter.admits(&metadata), expected, "{filter:?}");
            let again = read(filter.written());
            assert_eq!(again, filter, "what is written is read as the same");
        }
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        for filter in [
            json!({"owner": {"$ne": "a"}}),
            json!({"owner": {"$eq": "a", "other": 1}}),
            json!({"$not": {}}),
            json!({"$or": {"owner": "a"}}),
            json!({"$and": ["owner"]}),
        ] {
            assert!(MetadataFilter::read(&object(filter.clone())).is_err(), "{filter}");
        }
    }

    #[test]
    fn what_a_pattern_can_say_is_moved_there() {
        let filter = read(json!({"owner": "a", "tags": {"$contains": "x"}, "team": {"id": 1}, "$or": [{"a": 1}]}));
        let mut pattern = object(json!({"k": 1}));
        let rest = filter.clone().narrowing(&mut pattern);
        assert_eq!(Value::Object(pattern), json!({"k": 1, "owner": "a", "tags": ["x"]}));
        assert_eq!(rest, read(json!({"team": {"id": 1}, "$or": [{"a": 1}]})));
        let mut conflict = object(json!({"owner": "b"}));
        assert_eq!(read(json!({"owner": "a"})).narrowing(&mut conflict), read(json!({"owner": "a"})));
        assert_eq!(Value::Object(conflict), json!({"owner": "b"}));
    }

    #[test]
    fn patterns_are_what_every_admitted_one_contains() {
        let patterns = |filter| read(filter).patterns().map(|all| json!(all));
        assert_eq!(patterns(json!({})), None);
        assert_eq!(patterns(json!({"team": {"id": 1}})), Some(json!([{"team": {"id": 1}}])));
        assert_eq!(patterns(json!({"$or": [{"a": 1}, {"b": {"$contains": 2}}]})), Some(json!([{"a": 1}, {"b": [2]}])));
        assert_eq!(patterns(json!({"$or": [{"a": 1}, {}]})), None);
    }
}
