//! The JSON of checkpoints, which says the same versions over and over, in a third of its length. A row that is not much
//! shorter than a page would need a page of its own. All that backends read in it is which blobs belong to it.

use std::{borrow::Cow, collections::HashMap};

use serde::Deserialize;
use threadyard_core::{
    checkpoints::{Write, Writer},
    ids::RunId,
    storage::{Result, StorageError},
};

use crate::cipher::Place;

/// How a packed document begins; JSON begins otherwise.
const PACKED: u8 = 1;
/// Shorter documents are kept as they are.
const WORTHWHILE: usize = 256;

pub(crate) fn pack(document: &[u8]) -> Cow<'_, [u8]> {
    match shorter(document) {
        Some(packed) => Cow::Owned([&[PACKED], &*packed].concat()),
        None => Cow::Borrowed(document),
    }
}

pub(crate) fn unpack(stored: Vec<u8>) -> Result<Vec<u8>> {
    match stored.split_first() {
        Some((&PACKED, packed)) => whole("checkpoint", packed),
        _ => Ok(stored),
    }
}

/// The compressed form of something, if that is worth it.
pub(crate) fn shorter(data: &[u8]) -> Option<Vec<u8>> {
    if data.len() < WORTHWHILE {
        return None;
    }
    let packed = lz4_flex::compress_prepend_size(data);
    (packed.len() < data.len()).then_some(packed)
}

/// What `shorter` made shorter.
pub(crate) fn whole(table: &'static str, packed: &[u8]) -> Result<Vec<u8>> {
    lz4_flex::decompress_size_prepended(packed).map_err(|error| StorageError::Corrupt {
        table,
        row: "what is packed".into(),
        why: error.to_string(),
    })
}

/// Where a pending write of a checkpoint is.
pub(crate) fn place_of<'a>(ns: &'a str, checkpoint: &'a str, write: &'a Write) -> Place<'a> {
    let Write { task, index, channel, kind, .. } = write;
    Place::Write { ns, checkpoint, task, idx: *index, channel, kind }
}

/// The part of a checkpoint that says which blobs belong to it.
#[derive(Deserialize)]
struct Versions {
    #[serde(default)]
    channel_versions: HashMap<String, serde_json::Value>,
}

/// The versions of the channels of a checkpoint.
pub(crate) fn versions(checkpoint: &[u8]) -> Result<HashMap<String, String>> {
    let versions: Versions =
        serde_json::from_slice(checkpoint).map_err(|error| StorageError::Bug(error.to_string()))?;
    let text = |version| match version {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(versions.channel_versions.into_iter().map(|(channel, version)| (channel, text(version))).collect())
}

/// The run that metadata name, if that is not the one which writes.
pub(crate) fn named_run(writer: Writer, metadata: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        run_id: String,
    }
    let Named { run_id } = serde_json::from_slice(metadata).ok()?;
    match writer {
        Writer::Run(lease) if run_id.parse().is_ok_and(|named: RunId| named == lease.run_id) => None,
        _ => Some(run_id),
    }
}

/// Whether metadata say of a checkpoint that it has a `DeltaChannel` without a snapshot: its value is in the writes of the
/// checkpoints before.
pub(crate) fn needs_parent(metadata: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Counters {
        counters_since_delta_snapshot: serde_json::Value,
    }
    let counters = serde_json::from_slice(metadata).ok().map(|it: Counters| it.counters_since_delta_snapshot);
    counters.is_some_and(|counters| !counters.is_null() && counters.as_object().is_none_or(|it| !it.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_and_what_is_not_stays() {
        let long = format!("{{{}}}", r#""00000000000000000000000000000899.0.1517574605791585","#.repeat(12));
        for (document, shorter) in [(long.as_bytes(), true), (b"{}", false), (&[b'{'; 255], false)] {
            let packed = pack(document);
            assert_eq!(packed.len() < document.len() / 2, shorter);
            assert_eq!(unpack(packed.into_owned()).unwrap(), document);
        }
        assert!(unpack(vec![PACKED, 4, 0, 0, 0, 0x40, b'a']).is_err(), "it is cut short");
    }
}
