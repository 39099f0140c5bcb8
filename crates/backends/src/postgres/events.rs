//! Kept events in PostgreSQL.

use std::{borrow::Cow, sync::Arc};

use async_trait::async_trait;
use threadyard_core::{
    event_streaming::BLOCK,
    events::Events,
    ids::{RunId, ThreadId},
    runs::{Ending, Lease, Run},
    storage::{Result, StorageError},
    stream::StreamEvent,
    time::Timestamp,
};
use tokio_postgres::Row;

use super::{
    Client, PostgresStorage,
    failures::Done,
    rows::{Text, all, execute, first, get, one, run, string},
};
use crate::cipher::{Cipher, Place};

/// A page ends behind the event that makes it this long, so that a reader holds little of what is kept.
const PAGE_BYTES: i64 = 1 << 20;
/// So many events make a page however short they are.
const PAGE_EVENTS: i64 = 4_096;

#[async_trait]
impl Events for PostgresStorage {
    async fn keep_events(&self, lease: Lease, first: u64, events: Vec<StreamEvent>) -> Result<()> {
        self.lanes
            .write_at_once(self.home(lease).key, (lease, first, events), |client, (lease, first, events)| {
                Box::pin(keep(client, *lease, *first, events))
            })
            .await
    }

    async fn kept_events(&self, run_id: RunId, after: u64) -> Result<Vec<(u64, StreamEvent)>> {
        let client = self.client().await?;
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let sql = "SELECT seq, name, data FROM (
                 SELECT seq, name, data, sum(octet_length(name) + octet_length(data)) OVER (ORDER BY seq)
                     - octet_length(name) - octet_length(data) AS before
                 FROM (
                     SELECT seq, name, data FROM event WHERE run = (SELECT k FROM run WHERE id = $1) AND seq > $2
                     ORDER BY seq LIMIT $4) AS next) AS page
             WHERE before < $3 ORDER BY seq";
        let rows = all(&client, sql, &[&run_id.0, &after, &PAGE_BYTES, &PAGE_EVENTS]).await?;
        Ok(rows.iter().map(|row| event(client.cipher(), run_id, row)).collect::<Done<_>>()?)
    }

    async fn begin_block(&self, thread_id: ThreadId) -> Result<u64> {
        let sql = "UPDATE thread SET tapes = tapes + 1 WHERE id = $1 RETURNING tapes";
        let tapes = first(&self.client().await?, sql, &[&thread_id.0]).await?;
        let tapes = tapes.map(|row| get::<i64>(&row, 0)).transpose()?;
        // A thread that was deleted has no more to say than this run, whose events are not kept any more.
        Ok((tapes.unwrap_or(1).unsigned_abs() - 1) * BLOCK)
    }

    async fn tape_end(&self, thread_id: ThreadId) -> Result<u64> {
        let sql = "SELECT tapes FROM thread WHERE id = $1";
        let tapes = first(&self.client().await?, sql, &[&thread_id.0]).await?;
        let tapes = tapes.map(|row| get::<i64>(&row, 0)).transpose()?;
        Ok(tapes.unwrap_or_default().unsigned_abs() * BLOCK)
    }

    async fn told_runs(&self, thread_id: ThreadId, after: u64) -> Result<Vec<Run>> {
        let sql = "WITH home AS (SELECT k FROM thread WHERE id = $1)
             SELECT * FROM run WHERE k IN (
                 SELECT run.k FROM run, home WHERE thread = home.k AND status IN ('pending', 'running') AND attempt > 0
                 UNION
                 SELECT run.k FROM run, home WHERE thread = home.k AND events_kept
                     AND EXISTS (SELECT 1 FROM event WHERE event.run = run.k AND seq > $2))
             ORDER BY k";
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let client = self.client().await?;
        let rows = all(&client, sql, &[&thread_id.0, &after]).await?;
        Ok(rows.iter().map(|row| run(client.cipher(), row)).collect::<Done<_>>()?)
    }
}

fn event(cipher: &Cipher, run: RunId, row: &Row) -> Done<(u64, StreamEvent)> {
    let name: Arc<str> = string(row, "name")?.into();
    let data = cipher.open(Place::Event { run: run.0, name: &name }, get(row, "data")?)?;
    Ok((get::<i64>(row, "seq")?.cast_unsigned(), StreamEvent { name, data: data.into() }))
}

/// What an event holds, as its column holds it.
fn sealed<'a>(cipher: &Cipher, run: RunId, event: &'a StreamEvent) -> Result<Cow<'a, [u8]>> {
    cipher.seal(Place::Event { run: run.0, name: &event.name }, &event.data[..])
}

/// Adds to what a run has said, unless that is there already.
async fn keep(client: &Client, lease: Lease, place: u64, events: &[StreamEvent]) -> Done<()> {
    let names: Vec<_> = events.iter().map(|event| Text(&event.name)).collect();
    let seal = |event| sealed(client.cipher(), lease.run_id, event);
    let data = events.iter().map(seal).collect::<Result<Vec<_>>>()?;
    let held = first(
        client,
        "WITH held AS (
             SELECT k, events_kept FROM run WHERE id = $1 AND lease_id = $2 AND status = 'running' FOR KEY SHARE),
         kept AS (
             INSERT INTO event (run, seq, name, data) SELECT k, $3 + nth - 1, new.name, new.data
             FROM held, unnest($4::text[], $5::bytea[]) WITH ORDINALITY AS new (name, data, nth) WHERE events_kept
             ON CONFLICT (run, seq) DO NOTHING)
         SELECT k FROM held",
        &[&lease.run_id.0, &lease.lease_id.0, &place.cast_signed(), &names, &data],
    )
    .await?;
    held.map(|_| ()).ok_or(StorageError::LeaseLost.into())
}

/// How many events of runs are kept, of those of which any are.
pub(super) async fn counts(client: &Client, runs: &[uuid::Uuid]) -> Done<Vec<(RunId, u64)>> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT id, max(seq) AS said FROM run JOIN event ON event.run = run.k WHERE id = ANY($1) GROUP BY id";
    let rows = all(client, sql, &[&runs]).await?;
    rows.iter().map(|row| Ok((RunId(get(row, "id")?), get::<i64>(row, "said")?.cast_unsigned()))).collect()
}

/// Adds what the stream of a run closes with.
pub(super) async fn close(client: &Client, run: &Run, ending: &Ending) -> Done<()> {
    let Some(event) = ending.last_event(run).filter(|_| run.kwargs.resumable) else { return Ok(()) };
    // A run of event streaming that never began has no block yet: who waits for its end hears of it all the same.
    let sql = "WITH place AS (
             SELECT k, thread, (SELECT max(seq) FROM event WHERE run = run.k) AS said
             FROM run WHERE id = $1 AND events_kept),
         block AS (
             UPDATE thread SET tapes = tapes + 1 WHERE $4 AND k = (SELECT thread FROM place WHERE said IS NULL)
             RETURNING (tapes - 1) * $5 AS begins)
         INSERT INTO event (run, seq, name, data)
         SELECT k, coalesce(said, (SELECT begins FROM block), 0) + 1, $2, $3 FROM place";
    let (streams, block) = (run.kwargs.event_streaming(), BLOCK.cast_signed());
    let data = sealed(client.cipher(), run.run_id, &event)?;
    execute(client, sql, &[&run.run_id.0, &Text(&event.name), &data, &streams, &block]).await?;
    Ok(())
}

/// Forgets what runs said that ended before a moment. Says of how many.
pub(super) async fn sweep(client: &Client, ended_before: Timestamp, limit: u32) -> Done<u64> {
    let sql = "WITH over AS (
             UPDATE run SET events_kept = false WHERE k IN (
                 SELECT k FROM run WHERE events_kept AND updated_at < $1 AND status NOT IN ('pending', 'running')
                 ORDER BY updated_at LIMIT $2 FOR UPDATE SKIP LOCKED)
             RETURNING k),
         forgotten AS (DELETE FROM event WHERE run IN (SELECT k FROM over))
         SELECT count(*) FROM over";
    let count: i64 = get(&one(client, sql, &[&ended_before.0, &i64::from(limit)]).await?, 0)?;
    Ok(count.unsigned_abs())
}
