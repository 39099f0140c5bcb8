//! JSON that is stored and passed on without being understood.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

pub use serde_json::{Map, Value};

/// JSON text that is known to be well formed and is carried as it was written.
pub type RawJson = Box<RawValue>;

/// A JSON object.
pub type Object = Map<String, Value>;

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
