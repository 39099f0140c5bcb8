//! Values of channels in SQLite. One that grew from an earlier one, as a list of messages does, is kept as what it adds.

use std::sync::Arc;

use rusqlite::params;
use threadyard_core::{checkpoints::Blob, storage::StorageError};

use super::{Connection, Done, rows::first};
use crate::{
    cipher::{Growth, Place},
    growth::{Addition, Channel, Head, Heads, Stored, WORTHWHILE, base_of},
};

/// Stores a value unless there is one of this version.
pub(super) fn save(connection: &Connection, heads: &Heads, channel: Channel<'_>, blob: &Blob) -> Done<()> {
    if blob.data.len() < WORTHWHILE {
        return insert(connection, channel, blob, Stored::new(&blob.data, None, 0));
    }
    let before = head(connection, heads, channel, &blob.version)?;
    let nth = before.as_ref().map_or(0, |head| head.nth + 1);
    let base = before.map(|head| base(connection, channel, head, nth)).transpose()?.flatten();
    let stored = Stored::new(&blob.data, base.as_deref(), nth);
    let nth = stored.nth;
    insert(connection, channel, blob, stored)?;
    heads.insert(channel, Head { version: blob.version.clone(), data: blob.data.clone(), nth });
    Ok(())
}

fn insert(connection: &Connection, channel: Channel<'_>, blob: &Blob, stored: Stored<'_>) -> Done<()> {
    let Channel { lineage, ns, name } = channel;
    let Stored { data, packed, base, from, head, copied, nth } = stored.sealed(connection.cipher(), channel, blob)?;
    connection
        .prepare_cached(
            "INSERT INTO blob (lineage, ns, channel, version, kind, data, base, base_from, head, copied, nth, packed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING",
        )?
        .execute(params![lineage, ns, name, blob.version, blob.kind, data, base, from, head, copied, nth, packed])?;
    Ok(())
}

/// What the `nth` value builds on, if the one before it is `head`.
fn base(connection: &Connection, channel: Channel<'_>, head: Arc<Head>, nth: u32) -> Done<Option<Arc<Head>>> {
    let wanted = base_of(nth);
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
    if let Some(known) = heads.get(channel) {
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
            let (kind, base) = (row.get::<_, String>(0)?, row.get::<_, Option<String>>(2)?);
            let (shared, packed) = ([row.get(3)?, row.get(4)?, row.get(5)?], row.get(7)?);
            let growth = Growth { kind: &kind, base: base.as_deref(), shared, packed };
            let place = Place::Blob { ns, channel: name, version: &wanted, growth };
            let addition = Addition::unpacked(connection.cipher().open(place, row.get(1)?)?, packed, shared)?;
            Ok((kind, addition, base, row.get::<_, u32>(6)?))
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
    let Some(Loaded { kind, data, .. }) = load(connection, channel, version)? else { return Ok(()) };
    let Channel { lineage, ns, name } = channel;
    let growth = Growth { kind: &kind, base: None, shared: [0; 3], packed: false };
    let data = connection.cipher().seal(Place::Blob { ns, channel: name, version, growth }, data)?;
    connection
        .prepare_cached(
            "UPDATE blob SET data = ?5, base = NULL, base_from = 0, head = 0, copied = 0, nth = 0, packed = 0
             WHERE lineage = ?1 AND ns = ?2 AND channel = ?3 AND version = ?4",
        )?
        .execute(params![lineage, ns, name, version, data])?;
    Ok(())
}
