//! How what handlers encrypted is written: a text, or bytes, that say what is needed to decrypt them wherever they come to
//! stand. Rows are merged and copied by the databases, and the bodies of webhooks made there.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use threadyard_core::{json::Object, sealing::SealingContext, storage::StorageError};

/// How all of them begin. No escape of JSON or URLs is needed anywhere in one.
pub(super) const PREFIX: &str = "sealed~1:";

/// What a marker stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// The member of an object, as a handler for JSON made it.
    #[serde(rename = "m")]
    Member,
    /// JSON that a handler for blobs encrypted.
    #[serde(rename = "j")]
    Json,
    /// A text that a handler for blobs encrypted.
    #[serde(rename = "t")]
    Text,
    /// Bytes that a handler for blobs encrypted.
    #[serde(rename = "b")]
    Bytes,
}

/// What is said of something encrypted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Label {
    #[serde(rename = "k")]
    pub(super) kind: Kind,
    #[serde(rename = "m")]
    pub(super) model: String,
    #[serde(rename = "f")]
    pub(super) field: String,
    #[serde(rename = "c", default, skip_serializing_if = "Object::is_empty")]
    context: Object,
}

impl Label {
    pub(super) fn new(kind: Kind, model: &str, field: &str, context: &SealingContext) -> Self {
        Self { kind, model: model.to_owned(), field: field.to_owned(), context: (**context).clone() }
    }

    pub(super) fn context(&self) -> SealingContext {
        SealingContext::new(self.context.clone())
    }

    /// What begins a marker.
    fn head(&self) -> Result<String, StorageError> {
        let label = serde_json::to_vec(self).map_err(|error| StorageError::Bug(error.to_string()))?;
        Ok(format!("{PREFIX}{}.", URL_SAFE_NO_PAD.encode(label)))
    }

    /// A marker that is a text.
    pub(super) fn text(&self, encrypted: &[u8]) -> Result<String, StorageError> {
        let mut written = self.head()?;
        URL_SAFE_NO_PAD.encode_string(encrypted, &mut written);
        Ok(written)
    }

    /// A marker that is bytes.
    pub(super) fn bytes(&self, encrypted: &[u8]) -> Result<Bytes, StorageError> {
        Ok([self.head()?.as_bytes(), encrypted].concat().into())
    }
}

/// Reads a marker that is a text; another text is none.
pub(super) fn of_text(text: &str) -> Result<Option<(Label, Bytes)>, StorageError> {
    let Some((label, encrypted)) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')) else {
        return Ok(None);
    };
    let encrypted = URL_SAFE_NO_PAD.decode(encrypted).map_err(|error| nonsense(&error))?;
    Ok(Some((read(label)?, encrypted.into())))
}

/// Reads a marker that is bytes; other bytes are none.
pub(super) fn of_bytes(bytes: &Bytes) -> Result<Option<(Label, Bytes)>, StorageError> {
    let Some(rest) = bytes.strip_prefix(PREFIX.as_bytes()) else { return Ok(None) };
    let Some(end) = rest.iter().position(|byte| *byte == b'.') else { return Ok(None) };
    let label = std::str::from_utf8(&rest[..end]).map_err(|error| nonsense(&error))?;
    Ok(Some((read(label)?, bytes.slice(PREFIX.len() + end + 1..))))
}

fn read(label: &str) -> Result<Label, StorageError> {
    let label = URL_SAFE_NO_PAD.decode(label).map_err(|error| nonsense(&error))?;
    serde_json::from_slice(&label).map_err(|error| nonsense(&error))
}

fn nonsense(why: &dyn std::fmt::Display) -> StorageError {
    StorageError::Sealing(format!("what is stored does not say how it was encrypted: {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn markers_are_read_as_they_are_written() {
        let context: Object = json!({ "tenant": "ä" }).as_object().unwrap().clone();
        for kind in [Kind::Member, Kind::Json, Kind::Text, Kind::Bytes] {
            let label = Label::new(kind, "thread", "values", &context.clone().into());
            let text = label.text(b".\0.").unwrap();
            assert!(!text.contains(['"', '\\', '%', '#', ' ']), "{text}");
            assert_eq!(of_text(&text).unwrap(), Some((label.clone(), Bytes::from_static(b".\0."))));
            let bytes = label.bytes(b".\0.").unwrap();
            assert_eq!(of_bytes(&bytes).unwrap(), Some((label, Bytes::from_static(b".\0."))));
        }
        assert_eq!(of_text("sealed~2:").unwrap(), None);
        assert_eq!(of_bytes(&Bytes::from_static(b"\x92")).unwrap(), None);
        assert!(of_text("sealed~1:no.no").is_err());
    }
}
