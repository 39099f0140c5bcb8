//! Values of channels that grew from earlier ones, as a list of messages does: kept as what they add.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use quick_cache::{Weighter, sync::Cache};
use threadyard_core::{checkpoints::Blob, storage::Result};

use crate::{
    cipher::{Cipher, Growth, Place},
    documents,
};

/// What is longer takes too long to compress while everybody waits for the writer.
const PACKABLE: usize = 64 << 10;
/// Shorter values are kept whole.
pub(crate) const WORTHWHILE: usize = 512;
/// Each value builds on the one before, each of this many on the one that is as many before, and so on with its powers:
/// reading one takes few steps however often it grew, and none has to be written whole for that.
const STRIDE: u32 = 16;
/// How long the values are in all that are kept at hand.
const AT_HAND: u64 = 16 << 20;
/// The lengths of a msgpack array's header, before and after the array grew.
const HEADERS: [(usize, usize); 6] = [(0, 0), (1, 1), (3, 3), (5, 5), (1, 3), (3, 5)];

/// A channel of a thread.
#[derive(Clone, Copy)]
pub(crate) struct Channel<'a> {
    pub(crate) lineage: i64,
    pub(crate) ns: &'a str,
    pub(crate) name: &'a str,
}

/// The values that were written last, so that the next ones need not read them. Whether they are still there is asked
/// before one is built on.
pub(crate) struct Heads(Cache<(i64, String, String), Arc<Head>, ByLength>);

/// A value that others may build on.
pub(crate) struct Head {
    pub(crate) version: String,
    pub(crate) data: Bytes,
    pub(crate) nth: u32,
}

#[derive(Clone)]
struct ByLength;

impl Weighter<(i64, String, String), Arc<Head>> for ByLength {
    fn weight(&self, (_, ns, channel): &(i64, String, String), head: &Arc<Head>) -> u64 {
        (128 + ns.len() + channel.len() + head.version.len() + head.data.len()) as u64
    }
}

impl Heads {
    pub(crate) fn new() -> Self {
        Self(Cache::with_weighter(4_096, AT_HAND, ByLength))
    }

    pub(crate) fn get(&self, channel: Channel<'_>) -> Option<Arc<Head>> {
        self.0.get(&(channel.lineage, channel.ns.to_owned(), channel.name.to_owned()))
    }

    pub(crate) fn insert(&self, channel: Channel<'_>, head: Head) {
        self.0.insert((channel.lineage, channel.ns.to_owned(), channel.name.to_owned()), Arc::new(head));
    }
}

/// Which value the `nth` one builds on.
pub(crate) fn base_of(nth: u32) -> u32 {
    let mut back = 1;
    while nth.is_multiple_of(back * STRIDE) {
        back *= STRIDE;
    }
    nth - back
}

/// A value as a row holds it.
pub(crate) struct Stored<'a> {
    pub(crate) data: Cow<'a, [u8]>,
    pub(crate) packed: bool,
    pub(crate) base: Option<&'a str>,
    pub(crate) from: i64,
    pub(crate) head: i64,
    pub(crate) copied: i64,
    pub(crate) nth: u32,
}

impl<'a> Stored<'a> {
    /// The `nth` value as what it adds to `base`, if that is worth it, or else whole.
    pub(crate) fn new(data: &'a [u8], base: Option<&'a Head>, nth: u32) -> Self {
        let grown = base.and_then(|base| Some((Shared::find(&base.data, data)?, base)));
        let whole = Shared { from: 0, head: 0, length: 0 };
        let (shared, base, nth) = grown.map_or((whole, None, 0), |(it, base)| (it, Some(&*base.version), nth));
        let data = match base {
            Some(_) => Cow::Owned([&data[..shared.head], &data[shared.head + shared.length..]].concat()),
            None => Cow::Borrowed(data),
        };
        let shorter = (data.len() <= PACKABLE).then(|| documents::shorter(&data)).flatten();
        let (packed, data) = (shorter.is_some(), shorter.map_or(data, Cow::Owned));
        let [from, head, copied] = [shared.from, shared.head, shared.length].map(|it| (it as u64).cast_signed());
        Self { data, packed, base, from, head, copied, nth }
    }

    /// The same, sealed for its place.
    pub(crate) fn sealed(self, cipher: &Cipher, channel: Channel<'_>, blob: &Blob) -> Result<Self> {
        let data = cipher.seal(self.place(channel, blob), self.data.clone())?;
        Ok(Self { data, ..self })
    }

    /// Where the row of a value is.
    fn place<'b>(&'b self, channel: Channel<'b>, blob: &'b Blob) -> Place<'b> {
        let shared = [self.from, self.head, self.copied];
        let growth = Growth { kind: &blob.kind, base: self.base, shared, packed: self.packed };
        Place::Blob { ns: channel.ns, channel: channel.name, version: &blob.version, growth }
    }
}

/// What a value adds to another.
pub(crate) struct Addition {
    pub(crate) data: Vec<u8>,
    pub(crate) from: usize,
    pub(crate) head: usize,
    pub(crate) copied: usize,
}

impl Addition {
    /// Reads it from a row; one that adds to nothing is the value itself.
    pub(crate) fn unpacked(stored: Vec<u8>, packed: bool, [from, head, copied]: [i64; 3]) -> Result<Self> {
        let data = if packed { documents::whole("blob", &stored)? } else { stored };
        let [from, head, copied] = [from, head, copied].map(|it| usize::try_from(it).unwrap_or(0));
        Ok(Self { data, from, head, copied })
    }

    /// Makes the value of the one that it builds on, in its place.
    pub(crate) fn apply(self, value: &mut Vec<u8>) {
        value.truncate(self.from + self.copied);
        let (head, tail) = self.data.split_at(self.head.min(self.data.len()));
        value.splice(..self.from.min(value.len()), head.iter().copied());
        value.extend_from_slice(tail);
    }
}

/// What two values have in common: `length` bytes of the old one from `from` on, which the new one has after `head`.
#[derive(Debug, PartialEq, Eq)]
struct Shared {
    from: usize,
    head: usize,
    length: usize,
}

impl Shared {
    /// The most that they have in common behind their headers, if that is worth it.
    fn find(old: &[u8], new: &[u8]) -> Option<Self> {
        let behind = |(from, head): (usize, usize)| {
            Some(Self { from, head, length: common(old.get(from..)?, new.get(head..)?) })
        };
        let most = HEADERS.into_iter().filter_map(behind).max_by_key(|shared| shared.length)?;
        (most.length >= new.len() / 2).then_some(most)
    }
}

/// How many bytes are the same at the beginning.
fn common(old: &[u8], new: &[u8]) -> usize {
    const CHUNK: usize = 64;
    let chunks = old.chunks_exact(CHUNK).zip(new.chunks_exact(CHUNK)).take_while(|(old, new)| old == new).count();
    let same = chunks * CHUNK;
    same + old[same..].iter().zip(&new[same..]).take_while(|(old, new)| old == new).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_array_adds_is_found_behind_its_header() {
        let body = vec![7; 1_000];
        let array = |header: &[u8], more: &[u8]| [header, &body, more].concat();
        for (old, new, from, head) in [
            (array(&[0x92], &[]), array(&[0x93], &[1, 2]), 1, 1),
            (array(&[0x9f], &[]), array(&[0xdc, 0, 16], &[1]), 1, 3),
            (array(&[0xdc, 0, 16], &[]), array(&[0xdc, 0, 17], &[1]), 3, 3),
            (array(&[], &[]), array(&[], &[1]), 0, 0),
        ] {
            let shared = Shared::find(&old, &new).unwrap();
            assert_eq!(shared, Shared { from, head, length: 1_000 });
            let data = [&new[..head], &new[head + 1_000..]].concat();
            let mut value = old.clone();
            Addition { data, from, head, copied: 1_000 }.apply(&mut value);
            assert_eq!(value, new);
        }
        assert_eq!(Shared::find(&body, &[8; 1_000]), None);
    }
}
