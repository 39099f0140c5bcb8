//! Values of channels in PostgreSQL. One that grew from an earlier one, as a list of messages does, is kept as what it
//! adds.

use std::sync::Arc;

use threadyard_core::{checkpoints::Blob, storage::StorageError};
use tokio_postgres::Row;

use super::{
    Client,
    failures::Done,
    rows::{Text, all, execute, first, get, optional_string, string},
};
use crate::{
    cipher::{Cipher, Growth, Place},
    growth::{Addition, Channel, Head, Heads, Stored, WORTHWHILE, base_of},
};

/// Values as columns hold them, one list for each column.
#[derive(Default)]
pub(super) struct Columns<'a> {
    pub(super) channels: Vec<Text<'a>>,
    pub(super) versions: Vec<Text<'a>>,
    pub(super) kinds: Vec<Text<'a>>,
    pub(super) data: Vec<std::borrow::Cow<'a, [u8]>>,
    pub(super) packed: Vec<bool>,
    pub(super) bases: Vec<Option<Text<'a>>>,
    pub(super) from: Vec<i64>,
    pub(super) heads: Vec<i64>,
    pub(super) copied: Vec<i64>,
    pub(super) nth: Vec<i64>,
}

impl<'a> Columns<'a> {
    /// Adds a value, whose data are sealed already.
    pub(super) fn push(&mut self, blob: &'a Blob, stored: Stored<'a>) {
        self.channels.push(Text(&blob.channel));
        self.versions.push(Text(&blob.version));
        self.kinds.push(Text(&blob.kind));
        self.data.push(stored.data);
        self.packed.push(stored.packed);
        self.bases.push(stored.base.map(Text));
        self.from.push(stored.from);
        self.heads.push(stored.head);
        self.copied.push(stored.copied);
        self.nth.push(i64::from(stored.nth));
    }
}

/// Whether a value may build on another.
pub(super) fn may_grow(blob: &Blob) -> bool {
    blob.data.len() >= WORTHWHILE
}

/// What values may build on: how many come before each, and the one that it builds on.
pub(super) type Bases = Vec<(u32, Option<Arc<Head>>)>;

/// What each value may build on. The lineage is locked, so that it is still there when the value is written.
pub(super) async fn bases(client: &Client, heads: &Heads, lineage: i64, ns: &str, blobs: &[Blob]) -> Done<Bases> {
    let mut bases: Bases = blobs.iter().map(|_| (0, None)).collect();
    let growing = || blobs.iter().zip(1_i64..).filter(|(blob, _)| may_grow(blob));
    let channels: Vec<_> = growing().map(|(blob, _)| Text(&blob.channel)).collect();
    let versions: Vec<_> = growing().map(|(blob, _)| Text(&blob.version)).collect();
    let places: Vec<_> = growing().map(|(_, place)| place).collect();
    let rows = all(
        client,
        "SELECT place, before.version, nth
         FROM unnest($3::bigint[], $4::text[], $5::text[]) AS new (place, channel, version), LATERAL (
             SELECT blob.version, nth FROM blob WHERE lineage = $1 AND ns = $2 AND blob.channel = new.channel COLLATE \"C\"
                 AND blob.version < new.version COLLATE \"C\" ORDER BY blob.version DESC LIMIT 1) AS before",
        &[&lineage, &Text(ns), &places, &channels, &versions],
    )
    .await?;
    for row in &rows {
        let place = usize::try_from(get::<i64>(row, "place")?).unwrap_or_default() - 1;
        let (Some(blob), Some(entry)) = (blobs.get(place), bases.get_mut(place)) else { continue };
        let channel = Channel { lineage, ns, name: &blob.channel };
        let (before, nth) = (string(row, "version")?, length(row, "nth")?);
        *entry = (nth + 1, base(client, heads, channel, (before, nth)).await?);
    }
    Ok(bases)
}

fn length(row: &Row, column: &str) -> Done<u32> {
    Ok(u32::try_from(get::<i64>(row, column)?).unwrap_or_default())
}

/// What the value behind `before` builds on.
async fn base(
    client: &Client,
    heads: &Heads,
    channel: Channel<'_>,
    (before, nth): (String, u32),
) -> Done<Option<Arc<Head>>> {
    let wanted = base_of(nth + 1);
    let version = if wanted == nth { Some(before) } else { earlier(client, channel, &before, wanted).await? };
    let Some(version) = version else { return Ok(None) };
    if let Some(known) = heads.get(channel).filter(|known| known.version == version && known.nth == wanted) {
        return Ok(Some(known));
    }
    let loaded = load(client, &[Wanted { channel, version: &version }]).await?.pop().flatten();
    Ok(loaded.map(|it| Arc::new(Head { version, data: it.data.into(), nth: wanted })))
}

/// The `nth` of the values on which this one builds.
async fn earlier(client: &Client, channel: Channel<'_>, version: &str, nth: u32) -> Done<Option<String>> {
    let found = first(
        client,
        "WITH RECURSIVE chain AS (
             SELECT version, base, nth FROM blob WHERE lineage = $1 AND ns = $2 AND channel = $3 AND version = $4
             UNION ALL SELECT blob.version, blob.base, blob.nth FROM chain JOIN blob
                 ON lineage = $1 AND ns = $2 AND channel = $3 AND blob.version = chain.base WHERE chain.nth > $5)
         SELECT version FROM chain WHERE nth = $5",
        &[&channel.lineage, &Text(channel.ns), &Text(channel.name), &Text(version), &i64::from(nth)],
    )
    .await?;
    found.as_ref().map(|row| string(row, "version")).transpose()
}

/// A value that is to be read.
pub(super) struct Wanted<'a> {
    pub(super) channel: Channel<'a>,
    pub(super) version: &'a str,
}

/// A value, put together.
pub(super) struct Loaded {
    pub(super) kind: String,
    pub(super) data: Vec<u8>,
}

/// The values, as far as they are there: those that stay inline in their checkpoint are not.
pub(super) async fn load(client: &Client, wanted: &[Wanted<'_>]) -> Done<Vec<Option<Loaded>>> {
    let mut found: Vec<_> = wanted.iter().map(|_| None).collect();
    if wanted.is_empty() {
        return Ok(found);
    }
    let lineages: Vec<_> = wanted.iter().map(|it| it.channel.lineage).collect();
    let ns: Vec<_> = wanted.iter().map(|it| Text(it.channel.ns)).collect();
    let channels: Vec<_> = wanted.iter().map(|it| Text(it.channel.name)).collect();
    let versions: Vec<_> = wanted.iter().map(|it| Text(it.version)).collect();
    let rows = all(client, CHAINS, &[&lineages, &ns, &channels, &versions]).await?;
    for chain in rows.chunk_by(|one, next| one.get::<_, i64>("place") == next.get::<_, i64>("place")) {
        let place = usize::try_from(get::<i64>(&chain[0], "place")?).unwrap_or_default() - 1;
        if let (Some(slot), Some(wanted)) = (found.get_mut(place), wanted.get(place)) {
            *slot = Some(put_together(client.cipher(), chain, wanted)?);
        }
    }
    Ok(found)
}

/// Each value and those that it is made from, in this order.
const CHAINS: &str = "WITH RECURSIVE chain AS (
        SELECT place, 0 AS depth, blob.lineage, blob.ns, blob.channel, blob.version, kind, data, packed, base, base_from, head, copied
        FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
            AS wanted (lineage, ns, channel, version, place)
        JOIN blob ON blob.lineage = wanted.lineage AND blob.ns = wanted.ns COLLATE \"C\"
            AND blob.channel = wanted.channel COLLATE \"C\" AND blob.version = wanted.version COLLATE \"C\"
        UNION ALL SELECT place, depth + 1, blob.lineage, blob.ns, blob.channel, blob.version, blob.kind, blob.data,
            blob.packed, blob.base, blob.base_from, blob.head, blob.copied
        FROM chain JOIN blob ON blob.lineage = chain.lineage AND blob.ns = chain.ns AND blob.channel = chain.channel
            AND blob.version = chain.base)
    SELECT place, version, kind, data, packed, base, base_from, head, copied FROM chain ORDER BY place, depth";

fn put_together(cipher: &Cipher, chain: &[Row], wanted: &Wanted<'_>) -> Done<Loaded> {
    let Channel { ns, name, .. } = wanted.channel;
    let addition = |row: &Row| -> Done<Addition> {
        let shared = [get(row, "base_from")?, get(row, "head")?, get(row, "copied")?];
        let (kind, packed) = (string(row, "kind")?, get(row, "packed")?);
        let (version, base) = (string(row, "version")?, optional_string(row, "base")?);
        let growth = Growth { kind: &kind, base: base.as_deref(), shared, packed };
        let place = Place::Blob { ns, channel: name, version: &version, growth };
        Ok(Addition::unpacked(cipher.open(place, get(row, "data")?)?, packed, shared)?)
    };
    let (Some(newest), Some(oldest)) = (chain.first(), chain.last()) else {
        return Err(StorageError::Bug("a value without rows".into()).into());
    };
    if let Some(base) = get::<Option<&str>>(oldest, "base")? {
        let why = "it is needed by a later one, and gone".into();
        let row = format!("{} {base}", wanted.channel.name);
        return Err(StorageError::Corrupt { table: "blob", row, why }.into());
    }
    let mut data = addition(oldest)?.data;
    for row in chain.iter().rev().skip(1) {
        addition(row)?.apply(&mut data);
    }
    Ok(Loaded { kind: string(newest, "kind")?, data })
}

/// Makes a value one that is made from no others, before those go.
pub(super) async fn make_whole(client: &Client, channel: Channel<'_>, version: &str) -> Done<()> {
    let Some(whole) = load(client, &[Wanted { channel, version }]).await?.pop().flatten() else { return Ok(()) };
    let Channel { lineage, ns, name } = channel;
    let growth = Growth { kind: &whole.kind, base: None, shared: [0; 3], packed: false };
    let data = client.cipher().seal(Place::Blob { ns, channel: name, version, growth }, whole.data)?;
    execute(
        client,
        "UPDATE blob SET data = $5, base = NULL, base_from = 0, head = 0, copied = 0, nth = 0, packed = false
         WHERE lineage = $1 AND ns = $2 AND channel = $3 AND version = $4",
        &[&lineage, &Text(ns), &Text(name), &Text(version), &data],
    )
    .await?;
    Ok(())
}
