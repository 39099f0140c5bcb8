//! JSON that is stored and passed on without being understood.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

pub use serde_json::{Map, Value};

/// JSON text that is known to be well formed and is carried as it was written.
pub type RawJson = Box<RawValue>;

/// A JSON object.
pub type Object = Map<String, Value>;

/// A JSON object whose values are carried as they were written: not everything that clients and graphs may write, such as
/// lone surrogates, fits into a [`Value`].
pub type RawObject = indexmap::IndexMap<String, RawJson>;

/// The fields of a value that renders as an object.
pub fn fields(value: &impl Serialize) -> RawObject {
    fields_of(&raw(value)).unwrap_or_default()
}

/// The fields of a JSON object, or nothing when it is something else.
pub fn fields_of(json: &RawJson) -> Option<RawObject> {
    serde_json::from_str(json.get()).ok()
}

/// Renders one of our own values, which cannot fail: they hold neither non-string keys nor fallible serializers.
pub fn raw(value: &impl Serialize) -> RawJson {
    to_raw_value(value).expect("own values always render as JSON")
}

/// Takes over finished JSON text, which is checked once here.
pub fn raw_from_text(text: String) -> Result<RawJson, serde_json::Error> {
    RawValue::from_string(text)
}

/// The JSON `null`.
pub fn raw_null() -> RawJson {
    RawValue::NULL.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_carried_as_they_were_written() {
        let odd = r#"{"b":"\ud800","a":1e999}"#;
        let fields = fields_of(&raw_from_text(odd.into()).unwrap()).unwrap();
        assert_eq!(raw(&fields).get(), odd);
        assert!(fields_of(&raw(&1)).is_none());
    }
}
