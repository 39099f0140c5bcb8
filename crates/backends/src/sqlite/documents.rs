//! The JSON of checkpoints, which says the same versions over and over, in a third of its length. A row that is not much
//! shorter than a page would need a page of its own.

use std::borrow::Cow;

use threadyard_core::storage::StorageError;

use super::Done;

/// How a packed document begins; JSON begins otherwise.
const PACKED: u8 = 1;
/// Shorter documents are kept as they are.
const WORTHWHILE: usize = 256;

pub(super) fn pack(document: &[u8]) -> Cow<'_, [u8]> {
    match shorter(document) {
        Some(packed) => Cow::Owned([&[PACKED], &*packed].concat()),
        None => Cow::Borrowed(document),
    }
}

pub(super) fn unpack(stored: Vec<u8>) -> Done<Vec<u8>> {
    match stored.split_first() {
        Some((&PACKED, packed)) => whole("checkpoint", packed),
        _ => Ok(stored),
    }
}

/// The compressed form of something, if that is worth it.
pub(super) fn shorter(data: &[u8]) -> Option<Vec<u8>> {
    if data.len() < WORTHWHILE {
        return None;
    }
    let packed = lz4_flex::compress_prepend_size(data);
    (packed.len() < data.len()).then_some(packed)
}

/// What `shorter` made shorter.
pub(super) fn whole(table: &'static str, packed: &[u8]) -> Done<Vec<u8>> {
    lz4_flex::decompress_size_prepended(packed)
        .map_err(|error| StorageError::Corrupt { table, row: "what is packed".into(), why: error.to_string() }.into())
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
