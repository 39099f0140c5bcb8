//! Values of channels in SQLite. One that grew from an earlier one, as a list of messages does, is kept as what it adds.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use quick_cache::{Weighter, sync::Cache};
use rusqlite::{Connection, params};
use threadyard_core::{checkpoints::Blob, storage::StorageError};

use super::{Done, documents, rows::first};

/// What is longer takes too long to compress while everybody waits for the writer.
const PACKABLE: usize = 64 << 10;
/// Shorter values are kept whole.
const WORTHWHILE: usize = 512;
/// Each value builds on the one before, each of this many on the one that is as many before, and so on with its powers:
/// reading one takes few steps however often it grew, and none has to be written whole for that.
const STRIDE: u32 = 16;
/// How long the values are in all that are kept at hand.
const AT_HAND: u64 = 16 << 20;
/// The lengths of a msgpack array's header, before and after the array grew.
const HEADERS: [(usize, usize); 6] = [(0, 0), (1, 1), (3, 3), (5, 5), (1, 3), (3, 5)];

/// A channel of a thread.
#[derive(Clone, Copy)]
pub(super) struct Channel<'a> {
    pub(super) lineage: i64,
    pub(super) ns: &'a str,
    pub(super) name: &'a str,
}

/// The values that were written last, so that the next ones need not read them. Whether they are still there is asked
/// before one is built on.
pub(super) struct Heads(Cache<(i64, String, String), Arc<Head>, ByLength>);

struct Head {
    version: String,
    data: Bytes,
    nth: u32,
}

#[derive(Clone)]
struct ByLength;

impl Weighter<(i64, String, String), Arc<Head>> for ByLength {
    fn weight(&self, (_, ns, channel): &(i64, String, String), head: &Arc<Head>) -> u64 {
        (128 + ns.len() + channel.len() + head.version.len() + head.data.len()) as u64
    }
}

impl Heads {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(4_096, AT_HAND, ByLength))
    }
}

/// Stores a value unless there is one of this version.
pub(super) fn save(connection: &Connection, heads: &Heads, channel: Channel<'_>, blob: &Blob) -> Done<()> {
    if blob.data.len() < WORTHWHILE {
        return insert(connection, channel, blob, None);
    }
    let before = head(connection, heads, channel, &blob.version)?;
    let nth = before.as_ref().map_or(0, |head| head.nth + 1);
    let base = before.map(|head| base(connection, channel, head, nth)).transpose()?.flatten();
    let grown = base.and_then(|base| Some((Shared::find(&base.data, &blob.data)?, base)));
    let nth = if grown.is_some() { nth } else { 0 };
    insert(connection, channel, blob, grown.as_ref().map(|(shared, base)| (shared, base.version.as_str(), nth)))?;
    let new = Head { version: blob.version.clone(), data: blob.data.clone(), nth };
    heads.0.insert((channel.lineage, channel.ns.to_owned(), channel.name.to_owned()), Arc::new(new));
    Ok(())
}

fn insert(connection: &Connection, channel: Channel<'_>, blob: &Blob, grown: Option<(&Shared, &str, u32)>) -> Done<()> {
    let whole = Shared { from: 0, head: 0, length: 0 };
    let (shared, base, nth) = grown.map_or((&whole, None, 0), |(shared, base, nth)| (shared, Some(base), nth));
    let data = match base {
        Some(_) => Cow::Owned([&blob.data[..shared.head], &blob.data[shared.head + shared.length..]].concat()),
        None => Cow::Borrowed(&*blob.data),
    };
    let packed = (data.len() <= PACKABLE).then(|| documents::shorter(&data)).flatten();
    let (is_packed, data) = (packed.is_some(), packed.map_or(data, Cow::Owned));
    let [from, head, copied] = [shared.from, shared.head, shared.length].map(|it| (it as u64).cast_signed());
    let Channel { lineage, ns, name } = channel;
    connection
        .prepare_cached(
            "INSERT INTO blob (lineage, ns, channel, version, kind, data, base, base_from, head, copied, nth, packed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING",
        )?
        .execute(params![lineage, ns, name, blob.version, blob.kind, data, base, from, head, copied, nth, is_packed])?;
    Ok(())
}

/// What the `nth` value builds on, if the one before it is `head`.
fn base(connection: &Connection, channel: Channel<'_>, head: Arc<Head>, nth: u32) -> Done<Option<Arc<Head>>> {
    let mut back = 1;
    while nth.is_multiple_of(back * STRIDE) {
        back *= STRIDE;
    }
    let wanted = nth - back;
    if head.nth == wanted {
        return Ok(Some(head));
    }
    let mut query = connection.prepare_cached(
        "SELECT later.base, base.nth FROM blob AS later JOIN blob AS base USING (lineage, ns, channel)
         WHERE lineage = ?1 AND ns = ?2 AND channel = ?3 AND later.version = ?4 AND base.version = later.base",
    )?;
    let Channel { lineage, ns, name } = channel;
    let mut version = head.version.clone();
    loop {
        let earlier = first(&mut query, &[&lineage, &ns, &name, &version], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?))
        })?;
        match earlier {
            Some((earlier, nth)) if nth > wanted => version = earlier,
            Some((earlier, nth)) if nth == wanted => {
                let loaded = load(connection, channel, &earlier)?;
                return Ok(loaded.map(|it| Arc::new(Head { version: earlier, data: it.data.into(), nth })));
            }
            _ => return Ok(None),
        }
    }
}

/// The value of a channel that was written before this version.
fn head(connection: &Connection, heads: &Heads, channel: Channel<'_>, version: &str) -> Done<Option<Arc<Head>>> {
    let Channel { lineage, ns, name } = channel;
    if let Some(known) = heads.0.get(&(lineage, ns.to_owned(), name.to_owned())) {
        let mut query = connection.prepare_cached(
            "SELECT 1 FROM blob WHERE lineage = ?1 AND ns = ?2 AND channel = ?3 AND version = ?4 AND nth = ?5",
        )?;
        if known.version != version && query.exists(params![lineage, ns, name, known.version, known.nth])? {
            return Ok(Some(known));
        }
    }
    let mut query = connection.prepare_cached(
        "SELECT version FROM blob WHERE lineage = ?1 AND ns = ?2 AND channel = ?3 AND version < ?4
         ORDER BY version DESC LIMIT 1",
    )?;
    let before = first(&mut query, &[&lineage, &ns, &name, &version], |row| Ok(row.get::<_, String>(0)?))?;
    let Some(version) = before else { return Ok(None) };
    Ok(load(connection, channel, &version)?
        .map(|Loaded { data, nth, .. }| Arc::new(Head { version, data: data.into(), nth })))
}

/// A value, put together.
pub(super) struct Loaded {
    pub(super) kind: String,
    pub(super) data: Vec<u8>,
    nth: u32,
}

/// What a value adds to another.
struct Addition {
    data: Vec<u8>,
    from: usize,
    head: usize,
    copied: usize,
}

impl Addition {
    /// Makes the value of the one that it builds on, in its place.
    fn apply(self, value: &mut Vec<u8>) {
        value.truncate(self.from + self.copied);
        let (head, tail) = self.data.split_at(self.head.min(self.data.len()));
        value.splice(..self.from.min(value.len()), head.iter().copied());
        value.extend_from_slice(tail);
    }
}

pub(super) fn load(connection: &Connection, channel: Channel<'_>, version: &str) -> Done<Option<Loaded>> {
    let mut query = connection.prepare_cached(
        "SELECT kind, data, base, base_from, head, copied, nth, packed FROM blob
         WHERE lineage = ?1 AND ns = ?2 AND channel = ?3 AND version = ?4",
    )?;
    let Channel { lineage, ns, name } = channel;
    let mut additions = Vec::new();
    let mut found: Option<(String, u32)> = None;
    let mut wanted = version.to_owned();
    loop {
        let row = first(&mut query, &[&lineage, &ns, &name, &wanted], |row| {
            let length = |column| row.get::<_, u32>(column).map(|length| length as usize);
            let stored: Vec<u8> = row.get(1)?;
            let data = if row.get(7)? { documents::whole("blob", &stored)? } else { stored };
            let addition = Addition { data, from: length(3)?, head: length(4)?, copied: length(5)? };
            Ok((row.get::<_, String>(0)?, addition, row.get::<_, Option<String>>(2)?, row.get::<_, u32>(6)?))
        })?;
        let Some((kind, addition, base, nth)) = row else {
            // Values that stay inline in the checkpoint have no blob.
            if found.is_none() {
                return Ok(None);
            }
            let why = "it is needed by a later one, and gone".into();
            return Err(StorageError::Corrupt { table: "blob", row: format!("{name} {wanted}"), why }.into());
        };
        let (kind, nth) = found.get_or_insert((kind, nth)).clone();
        let Some(base) = base else {
            let mut data = addition.data;
            additions.into_iter().rev().for_each(|addition: Addition| addition.apply(&mut data));
            return Ok(Some(Loaded { kind, data, nth }));
        };
        additions.push(addition);
        wanted = base;
    }
}

/// Makes a value one that is made from no others, before those go.
pub(super) fn make_whole(connection: &Connection, channel: Channel<'_>, version: &str) -> Done<()> {
    let Some(Loaded { data, .. }) = load(connection, channel, version)? else { return Ok(()) };
    connection
        .prepare_cached(
            "UPDATE blob SET data = ?5, base = NULL, base_from = 0, head = 0, copied = 0, nth = 0, packed = 0
             WHERE lineage = ?1 AND ns = ?2 AND channel = ?3 AND version = ?4",
        )?
        .execute(params![channel.lineage, channel.ns, channel.name, version, data])?;
    Ok(())
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
