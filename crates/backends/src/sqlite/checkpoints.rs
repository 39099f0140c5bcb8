//! Checkpoints in SQLite: what LangGraph saves, found by thread, namespace and id, and never looked into beyond the
//! channel versions that say which blobs belong to it.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{
    OptionalExtension, Row, params,
    types::{ToSql, Value},
};
use threadyard_core::{
    checkpoints::{
        Blob, CheckpointQuery, CheckpointTuple, Checkpoints, Committed, PruneStrategy, PutCheckpoint, PutWrites, Write,
        Writer,
    },
    ids::RunId,
    storage::Result,
};

use super::{
    Connection, Done, SqliteStorage,
    blobs::{self, Loaded},
    lineages, queue,
    rows::{all, first, key, lineage_key, lineage_name},
};
use crate::{
    cipher::Place,
    documents::{self, named_run, place_of, versions},
    growth::{Channel, Heads},
};

#[async_trait]
impl Checkpoints for SqliteStorage {
    fn put_checkpoint(&self, writer: Writer, put: PutCheckpoint) -> Committed {
        let heads = self.heads.clone();
        self.writer.promise(move |connection| save(connection, &heads, writer, &put))
    }

    fn put_writes(&self, writer: Writer, put: PutWrites) -> Committed {
        self.writer.promise(move |connection| save_writes(connection, writer, &put))
    }

    async fn checkpoint(&self, thread: &str, ns: &str, id: Option<&str>) -> Result<Option<CheckpointTuple>> {
        let (thread, ns, id) = (lineage_key(thread), ns.to_owned(), id.map(str::to_owned));
        self.readers.read(move |connection| find(connection, &thread, &ns, id.as_deref())).await
    }

    async fn list_checkpoints(&self, query: CheckpointQuery) -> Result<Vec<CheckpointTuple>> {
        self.readers.read(move |connection| list(connection, &query)).await
    }

    async fn delete_checkpoints(&self, thread: &str) -> Result<()> {
        let thread = lineage_key(thread);
        self.writer.write(move |connection| lineages::forget(connection, &thread)).await
    }

    async fn delete_run_checkpoints(&self, runs: Vec<String>) -> Result<()> {
        self.writer.write(move |connection| lineages::forget_runs(connection, &runs)).await
    }

    async fn copy_checkpoints(&self, source: &str, target: &str) -> Result<()> {
        let (source, target) = (lineage_key(source), lineage_key(target));
        self.writer.write(move |connection| lineages::copy(connection, &source, &target)).await
    }

    async fn prune_checkpoints(&self, threads: Vec<String>, strategy: PruneStrategy) -> Result<()> {
        self.writer
            .write(move |connection| {
                threads.iter().try_for_each(|thread| match strategy {
                    PruneStrategy::Delete => lineages::forget(connection, &lineage_key(thread)),
                    PruneStrategy::KeepLatest => lineages::keep_latest(connection, &lineage_key(thread)),
                })
            })
            .await
    }
}

pub(super) fn lineage(connection: &Connection, thread: &Value) -> Done<Option<i64>> {
    let mut query = connection.prepare_cached("SELECT k FROM lineage WHERE thread = ?1")?;
    Ok(query.query_row([thread], |row| row.get(0)).optional()?)
}

pub(super) fn make_lineage(connection: &Connection, thread: &Value) -> Done<i64> {
    if let Some(found) = lineage(connection, thread)? {
        return Ok(found);
    }
    connection.prepare_cached("INSERT INTO lineage (thread) VALUES (?1)")?.execute([thread])?;
    Ok(connection.last_insert_rowid())
}

fn check(connection: &Connection, writer: Writer) -> Done<Option<[u8; 16]>> {
    match writer {
        Writer::Run(lease) => queue::check(connection, lease).map(|()| Some(key(lease.run_id))),
        Writer::Call => Ok(None),
    }
}

fn save(connection: &Connection, heads: &Heads, writer: Writer, put: &PutCheckpoint) -> Done<()> {
    let run = check(connection, writer)?;
    let named = named_run(writer, &put.metadata);
    let lineage = make_lineage(connection, &lineage_key(&put.thread))?;
    for blob in &put.blobs {
        let channel = Channel { lineage, ns: &put.ns, name: &blob.channel };
        blobs::save(connection, heads, channel, blob)?;
    }
    let place = |column| Place::Checkpoint { column, ns: &put.ns, id: &put.id };
    let checkpoint = connection.cipher().seal(place("checkpoint"), documents::pack(&put.checkpoint))?;
    let metadata = connection.cipher().seal(place("metadata"), &*put.metadata)?;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO checkpoint (lineage, ns, id, parent, checkpoint, metadata, run, named_run)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![lineage, put.ns, put.id, put.parent, checkpoint, metadata, run, named])?;
    Ok(())
}

fn save_writes(connection: &Connection, writer: Writer, put: &PutWrites) -> Done<()> {
    check(connection, writer)?;
    let lineage = make_lineage(connection, &lineage_key(&put.thread))?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO pending_write (lineage, ns, checkpoint, task, idx, path, channel, kind, data)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT DO UPDATE SET path = excluded.path, channel = excluded.channel, kind = excluded.kind,
             data = excluded.data WHERE excluded.idx < 0",
    )?;
    for write in &put.writes {
        let Write { task, path, index, channel, kind, data } = write;
        let data = connection.cipher().seal(place_of(&put.ns, &put.id, write), &**data)?;
        insert.execute(params![lineage, put.ns, put.id, task, index, path, channel, kind, data])?;
    }
    Ok(())
}

/// A checkpoint's row.
struct Stored {
    lineage: i64,
    thread: Value,
    ns: String,
    id: String,
    parent: Option<String>,
    checkpoint: Vec<u8>,
    metadata: Vec<u8>,
}

fn stored(connection: &Connection, row: &Row<'_>) -> Done<Stored> {
    let (ns, id): (String, String) = (row.get("ns")?, row.get("id")?);
    let opened = |column| {
        let place = Place::Checkpoint { column, ns: &ns, id: &id };
        Done::Ok(connection.cipher().open(place, row.get(column)?)?)
    };
    let (checkpoint, metadata) = (documents::unpack(opened("checkpoint")?)?, opened("metadata")?);
    let (lineage, thread, parent) = (row.get("lineage")?, row.get("thread")?, row.get("parent")?);
    Ok(Stored { lineage, thread, ns, id, parent, checkpoint, metadata })
}

const CHECKPOINT: &str =
    "SELECT checkpoint.*, lineage.thread FROM checkpoint JOIN lineage ON lineage.k = checkpoint.lineage";

/// The checkpoint with this id, or the newest.
pub(super) fn find(
    connection: &Connection,
    thread: &Value,
    ns: &str,
    id: Option<&str>,
) -> Done<Option<CheckpointTuple>> {
    let sql = format!(
        "{CHECKPOINT} WHERE lineage.thread = ?1 AND ns = ?2 AND {} ORDER BY id DESC LIMIT 1",
        if id.is_some() { "id = ?3" } else { "?3 IS NULL" }
    );
    let found = first(&mut connection.prepare_cached(&sql)?, &[&thread, &ns, &id], |row| stored(connection, row))?;
    found.map(|row| tuple(connection, row)).transpose()
}

fn list(connection: &Connection, query: &CheckpointQuery) -> Done<Vec<CheckpointTuple>> {
    let sql = format!(
        "{CHECKPOINT} WHERE (?1 IS NULL OR lineage.thread = ?1) AND (?2 IS NULL OR ns = ?2) AND (?3 IS NULL OR id < ?3)
             AND json_has(opened_metadata(ns, id, metadata), ?4)
         ORDER BY id DESC LIMIT ?5"
    );
    let thread = query.thread.as_deref().map(lineage_key);
    let filter = serde_json::to_string(&query.filter)?;
    let limit = query.limit.map_or(-1, i64::from);
    let parameters: [&dyn ToSql; 5] = [&thread, &query.ns, &query.before, &filter, &limit];
    let rows = all(&mut connection.prepare_cached(&sql)?, &parameters, |row| stored(connection, row))?;
    rows.into_iter().map(|row| tuple(connection, row)).collect()
}

fn tuple(connection: &Connection, row: Stored) -> Done<CheckpointTuple> {
    let blobs = blobs(connection, &row)?;
    let mut query = connection.prepare_cached(
        "SELECT task, path, idx, channel, kind, data FROM pending_write
         WHERE lineage = ?1 AND ns = ?2 AND checkpoint = ?3 ORDER BY path, task, idx",
    )?;
    let writes = all(&mut query, &[&row.lineage, &row.ns, &row.id], |found| {
        let (task, path, index) = (found.get(0)?, found.get(1)?, found.get(2)?);
        let (channel, kind) = (found.get(3)?, found.get(4)?);
        let write = Write { task, path, index, channel, kind, data: Bytes::new() };
        let data = connection.cipher().open(place_of(&row.ns, &row.id, &write), found.get(5)?)?;
        Ok(Write { data: data.into(), ..write })
    })?;
    Ok(CheckpointTuple {
        thread: lineage_name(row.thread)?,
        ns: row.ns,
        id: row.id,
        parent: row.parent,
        checkpoint: row.checkpoint.into(),
        metadata: row.metadata.into(),
        blobs,
        writes,
    })
}

fn blobs(connection: &Connection, row: &Stored) -> Done<Vec<Blob>> {
    let mut versions: Vec<_> = versions(&row.checkpoint)?.into_iter().collect();
    versions.sort_unstable();
    let mut blobs = Vec::with_capacity(versions.len());
    for (name, version) in versions {
        let channel = Channel { lineage: row.lineage, ns: &row.ns, name: &name };
        if let Some(Loaded { kind, data, .. }) = blobs::load(connection, channel, &version)? {
            blobs.push(Blob { channel: name, version, kind, data: data.into() });
        }
    }
    Ok(blobs)
}

/// Whether a run has left a checkpoint.
pub(super) fn written_by(connection: &Connection, run: RunId) -> Done<bool> {
    Ok(connection.prepare_cached("SELECT 1 FROM checkpoint WHERE run = ?1")?.exists([key(run)])?)
}
