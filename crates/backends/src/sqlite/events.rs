//! Kept events in SQLite.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::params;
use threadyard_core::{
    event_streaming::BLOCK,
    events::Events,
    ids::{RunId, ThreadId},
    runs::{Ending, Lease, Run},
    storage::Result,
    stream::StreamEvent,
    time::Timestamp,
};

use super::{
    Connection, Done, SqliteStorage, queue,
    rows::{all, first, key, run},
};
use crate::cipher::Place;

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

    async fn begin_block(&self, thread_id: ThreadId) -> Result<u64> {
        self.writer.write(move |connection| begin_block(connection, thread_id)).await
    }

    async fn tape_end(&self, thread_id: ThreadId) -> Result<u64> {
        self.readers
            .look_up(move |connection| {
                let mut query = connection.prepare_cached("SELECT tapes FROM thread WHERE id = ?1")?;
                let tapes = first(&mut query, &[&key(thread_id)], |row| Ok(row.get::<_, i64>(0)?))?;
                Ok(tapes.unwrap_or_default().unsigned_abs() * BLOCK)
            })
            .await
    }

    async fn told_runs(&self, thread_id: ThreadId, after: u64) -> Result<Vec<Run>> {
        self.readers
            .read(move |connection| {
                let mut query = connection.prepare_cached(TOLD)?;
                all(&mut query, &[&key(thread_id), &i64::try_from(after).unwrap_or(i64::MAX)], |row| {
                    run(connection, row)
                })
            })
            .await
    }
}

const TOLD: &str = "WITH home AS (SELECT k FROM thread WHERE id = ?1)
    SELECT * FROM run WHERE k IN (
        SELECT k FROM run WHERE thread = (SELECT k FROM home) AND status IN ('pending', 'running') AND attempt > 0
        UNION
        SELECT k FROM run AS kept WHERE thread = (SELECT k FROM home) AND events_kept
            AND EXISTS (SELECT 1 FROM event WHERE run = kept.k AND seq > ?2))
    ORDER BY k";

fn begin_block(connection: &Connection, thread_id: ThreadId) -> Done<u64> {
    let mut update = connection.prepare_cached("UPDATE thread SET tapes = tapes + 1 WHERE id = ?1 RETURNING tapes")?;
    let tapes = first(&mut update, &[&key(thread_id)], |row| Ok(row.get::<_, i64>(0)?))?;
    // A thread that was deleted has no more to say than this run, whose events are not kept any more.
    Ok((tapes.unwrap_or(1).unsigned_abs() - 1) * BLOCK)
}

fn keep(connection: &Connection, run_id: RunId, first: u64, events: &[StreamEvent]) -> Done<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO event (run, seq, name, data) SELECT k, ?2, ?3, ?4 FROM run WHERE id = ?1 AND events_kept",
    )?;
    for (event, place) in events.iter().zip(first..) {
        let data = connection.cipher().seal(Place::Event { run: run_id.0, name: &event.name }, &event.data[..])?;
        insert.execute(params![key(run_id), place.cast_signed(), event.name, data])?;
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
        let data = connection.cipher().open(Place::Event { run: run_id.0, name: &name }, data)?;
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
    let Some(event) = ending.last_event(run).filter(|_| run.kwargs.resumable) else { return Ok(()) };
    let said = match count(connection, run.run_id)? {
        // It never began: who waits for its end hears of it all the same.
        0 if run.kwargs.event_streaming() => begin_block(connection, run.thread_id)?,
        said => said,
    };
    keep(connection, run.run_id, said + 1, &[event])
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
