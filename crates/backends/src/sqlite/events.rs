//! Kept events in SQLite.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, params};
use threadyard_core::{
    events::Events,
    ids::RunId,
    runs::{Ending, Lease, Run},
    storage::Result,
    stream::StreamEvent,
    time::Timestamp,
};

use super::{
    Done, SqliteStorage, queue,
    rows::{all, key},
};

/// A page ends behind the event that makes it this long, so that a reader holds little of what is kept.
const PAGE_BYTES: usize = 1 << 20;

#[async_trait]
impl Events for SqliteStorage {
    async fn keep_events(&self, lease: Lease, first: u64, events: Vec<StreamEvent>) -> Result<()> {
        self.writer
            .write(move |connection| {
                queue::check(connection, lease)?;
                keep(connection, lease.run_id, first, &events)
            })
            .await
    }

    async fn kept_events(&self, run_id: RunId, after: u64) -> Result<Vec<(u64, StreamEvent)>> {
        self.readers.read(move |connection| page(connection, run_id, after)).await
    }
}

fn keep(connection: &Connection, run_id: RunId, first: u64, events: &[StreamEvent]) -> Done<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO event (run, seq, name, data) SELECT k, ?2, ?3, ?4 FROM run WHERE id = ?1 AND events_kept",
    )?;
    for (event, place) in events.iter().zip(first..) {
        insert.execute(params![key(run_id), place.cast_signed(), event.name, &event.data[..]])?;
    }
    Ok(())
}

fn page(connection: &Connection, run_id: RunId, after: u64) -> Done<Vec<(u64, StreamEvent)>> {
    let mut query = connection.prepare_cached(
        "SELECT seq, name, data FROM event WHERE run = (SELECT k FROM run WHERE id = ?1) AND seq > ?2
         ORDER BY seq",
    )?;
    let mut rows = query.query(params![key(run_id), i64::try_from(after).unwrap_or(i64::MAX)])?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes < PAGE_BYTES {
        let Some(row) = rows.next()? else { break };
        let (name, data): (Arc<str>, Vec<u8>) = (row.get("name")?, row.get("data")?);
        bytes += name.len() + data.len();
        page.push((row.get::<_, i64>("seq")?.cast_unsigned(), StreamEvent { name, data: data.into() }));
    }
    Ok(page)
}

/// How many events of a run are kept.
pub(super) fn count(connection: &Connection, run_id: RunId) -> Done<u64> {
    let mut query = connection
        .prepare_cached("SELECT coalesce(max(seq), 0) FROM event WHERE run = (SELECT k FROM run WHERE id = ?1)")?;
    Ok(query.query_row([key(run_id)], |row| row.get::<_, i64>(0))?.cast_unsigned())
}

/// Adds what the stream of a run closes with.
pub(super) fn close(connection: &Connection, run: &Run, ending: &Ending) -> Done<()> {
    match ending.last_event().filter(|_| run.kwargs.resumable) {
        Some(event) => keep(connection, run.run_id, count(connection, run.run_id)? + 1, &[event]),
        None => Ok(()),
    }
}

/// Forgets what runs said that ended before a moment. Says of how many.
pub(super) fn sweep(connection: &Connection, ended_before: Timestamp, limit: u32) -> Done<u64> {
    let mut over = connection.prepare_cached(
        "SELECT k FROM run WHERE events_kept AND updated_at < ?1 AND status NOT IN ('pending', 'running')
         ORDER BY updated_at LIMIT ?2",
    )?;
    let over = all(&mut over, &[&ended_before.0, &limit], |row| Ok(row.get::<_, i64>(0)?))?;
    for run in &over {
        connection.prepare_cached("DELETE FROM event WHERE run = ?1")?.execute([run])?;
        connection.prepare_cached("UPDATE run SET events_kept = NULL WHERE k = ?1")?.execute([run])?;
    }
    Ok(over.len() as u64)
}
