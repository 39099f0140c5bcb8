//! What `langgraph.json` says of how values of checkpoints become objects again: `checkpointer.serde`.

use std::fmt;

use serde::{Deserialize, Serialize};
use threadyard_core::json::Value;

use crate::project::document::{Wrong, read_all};

/// `checkpointer.serde`, for workers of Python. What is not said is as LangGraph has it, but for pickles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SerdeRules {
    /// Which classes values of the older JSON form may name.
    #[serde(rename = "allowed_json_modules", skip_serializing_if = "Option::is_none")]
    pub json: Option<Classes>,
    /// Which classes values may name, besides those that LangGraph takes for safe.
    #[serde(rename = "allowed_msgpack_modules", skip_serializing_if = "Option::is_none")]
    pub msgpack: Option<Classes>,
    /// Whether what has no other form is kept as a pickle.
    #[serde(rename = "pickle_fallback")]
    pub pickle: bool,
}

/// Classes that may be made of values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Classes {
    /// Any, or none besides those that are safe.
    Each(bool),
    /// These: their modules in one or more parts, and then their names.
    These(Vec<Vec<String>>),
}

/// `checkpointer.serde` as it is written.
#[derive(Deserialize)]
struct Written {
    #[serde(default, deserialize_with = "said")]
    allowed_json_modules: Option<Value>,
    #[serde(default, deserialize_with = "said")]
    allowed_msgpack_modules: Option<Value>,
    #[serde(default)]
    pickle_fallback: Option<bool>,
}

/// `null` says something else than nothing does.
fn said<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// How values become objects again, if anything is said of it. Rules that nobody reads would leave open what they should
/// close, so that a mistyped key is refused.
pub(crate) fn rules(serde: Option<&Value>) -> Result<Option<SerdeRules>, Wrong> {
    let Some(serde) = serde.filter(|it| !it.is_null()) else { return Ok(None) };
    if !serde.is_object() {
        return Err(Wrong::new("checkpointer.serde", "must be an object"));
    }
    let written: Written = read_all("checkpointer.serde", serde)?;
    let classes = |key: &str, said: Option<Value>| said.map(|said| classes(key, &said)).transpose();
    Ok(Some(SerdeRules {
        json: classes("allowed_json_modules", written.allowed_json_modules)?,
        msgpack: classes("allowed_msgpack_modules", written.allowed_msgpack_modules)?,
        pickle: written.pickle_fallback.unwrap_or(false),
    }))
}

fn classes(key: &str, said: &Value) -> Result<Classes, Wrong> {
    let list = match said {
        Value::Null => return Ok(Classes::Each(false)),
        Value::Bool(all) => return Ok(Classes::Each(*all)),
        said => serde_json::from_value::<Vec<Vec<String>>>(said.clone()).ok(),
    };
    let list =
        list.filter(|list| list.iter().all(|class| class.len() > 1 && class.iter().all(|part| !part.is_empty())));
    list.map(Classes::These).ok_or_else(|| {
        let why = "must be true, null, or a list of classes such as [\"my_agent.models\", \"MyState\"]";
        Wrong::new(format!("checkpointer.serde.{key}"), why)
    })
}

impl fmt::Display for Classes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Each(true) => formatter.write_str("any class"),
            Self::Each(false) => formatter.write_str("safe classes"),
            Self::These(list) => {
                let list: Vec<_> = list.iter().map(|class| class.join(".")).collect();
                write!(formatter, "safe classes and {}", list.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_of(serde: &Value) -> Result<SerdeRules, Wrong> {
        rules(Some(serde)).map(Option::unwrap)
    }

    #[test]
    fn what_is_said_goes_to_workers_and_nothing_else() {
        assert_eq!(rules(None), Ok(None));
        assert_eq!(json!(read_of(&json!({})).unwrap()), json!({"pickle_fallback": false}));
        for (serde, expected) in [
            (
                json!({"allowed_msgpack_modules": null}),
                json!({"allowed_msgpack_modules": false, "pickle_fallback": false}),
            ),
            (
                json!({"allowed_msgpack_modules": true}),
                json!({"allowed_msgpack_modules": true, "pickle_fallback": false}),
            ),
            (
                json!({"allowed_json_modules": [["a", "b", "C"]], "pickle_fallback": true}),
                json!({"allowed_json_modules": [["a", "b", "C"]], "pickle_fallback": true}),
            ),
        ] {
            assert_eq!(json!(read_of(&serde).unwrap()), expected);
        }
    }

    #[test]
    fn what_names_no_class_is_refused() {
        for (serde, word) in [
            (json!({"allowed_msgpack_modules": ["a.B"]}), "allowed_msgpack_modules"),
            (json!({"allowed_msgpack_modules": [["B"]]}), "allowed_msgpack_modules"),
            (json!({"allowed_json_modules": [["a", ""]]}), "allowed_json_modules"),
            (json!({"allowed_json_modules": "all"}), "allowed_json_modules"),
            (json!({"pickle_fallback": "yes"}), "pickle_fallback"),
            (json!([]), "checkpointer.serde"),
            (json!({"pickle": true}), "checkpointer.serde.pickle"),
        ] {
            let error = read_of(&serde).unwrap_err().to_string();
            assert!(error.contains(word), "{serde}: {error}");
        }
    }
}
