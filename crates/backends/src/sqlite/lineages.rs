//! The checkpoints of whole threads: copied, pruned, measured and deleted, with the blobs and writes that belong to them.

use std::collections::HashSet;

use rusqlite::{
    params,
    types::{ToSql, Value},
};
use threadyard_core::{
    ids::RunId,
    storage::StorageError,
    threads::{ThreadStorage, Usage},
};

use super::{
    Connection, Done, blobs,
    checkpoints::{lineage, make_lineage},
    rows::{all, key, lineage_key},
};
use crate::{
    cipher::Place,
    documents::{self, versions},
    growth::Channel,
};

/// Deletes everything of a thread.
pub(super) fn forget(connection: &Connection, thread: &Value) -> Done<()> {
    let Some(lineage) = lineage(connection, thread)? else { return Ok(()) };
    for sql in [
        "DELETE FROM checkpoint WHERE lineage = ?1",
        "DELETE FROM blob WHERE lineage = ?1",
        "DELETE FROM pending_write WHERE lineage = ?1",
        "DELETE FROM lineage WHERE k = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([lineage])?;
    }
    Ok(())
}

/// Deletes the checkpoints that a run wrote, and what belongs to them alone. What later values are made from stays.
pub(super) fn undo(connection: &Connection, run: RunId) -> Done<()> {
    delete(connection, "run = ?1", &key(run))
}

/// Deletes the checkpoints whose metadata name these runs, which need not be the ones that wrote them.
pub(super) fn forget_runs(connection: &Connection, runs: &[String]) -> Done<()> {
    for run in runs {
        delete(connection, "named_run = ?1", run)?;
        if let Ok(run) = run.parse::<RunId>() {
            delete(connection, "run = ?1 AND named_run IS NULL", &key(run))?;
        }
    }
    Ok(())
}

fn delete(connection: &Connection, of_run: &str, run: &dyn ToSql) -> Done<()> {
    let mut query = connection.prepare_cached(&format!("SELECT DISTINCT lineage FROM checkpoint WHERE {of_run}"))?;
    let touched = all(&mut query, &[run], |row| Ok(row.get::<_, i64>(0)?))?;
    let mut delete = connection.prepare_cached(&format!(
        "WITH RECURSIVE needed (ns, id) AS (
             SELECT ns, parent FROM checkpoint WHERE lineage = ?2 AND ({of_run}) IS NOT TRUE AND {NEEDS_PARENT}
             UNION SELECT checkpoint.ns, parent FROM needed JOIN checkpoint USING (ns, id)
                 WHERE lineage = ?2 AND {NEEDS_PARENT})
         DELETE FROM checkpoint WHERE lineage = ?2 AND ({of_run}) AND (ns, id) NOT IN (
             SELECT ns, id FROM needed WHERE id IS NOT NULL)"
    ))?;
    for lineage in touched {
        delete.execute(params![run, lineage])?;
        sweep(connection, lineage)?;
    }
    Ok(())
}

/// Of a checkpoint with a `DeltaChannel` that has no snapshot there: its value is in the writes of the checkpoints before.
const NEEDS_PARENT: &str = "coalesce(json_extract(opened_metadata(checkpoint.ns, checkpoint.id, checkpoint.metadata),
        '$.counters_since_delta_snapshot'), '{}') <> '{}'";

/// Deletes all but the newest checkpoint of each namespace, and those that its value is made from.
pub(super) fn keep_latest(connection: &Connection, thread: &Value) -> Done<()> {
    let Some(lineage) = lineage(connection, thread)? else { return Ok(()) };
    connection
        .prepare_cached(&format!(
            "WITH RECURSIVE kept (ns, id) AS (
                 SELECT ns, max(id) FROM checkpoint WHERE lineage = ?1 GROUP BY ns
                 UNION SELECT checkpoint.ns, parent FROM kept JOIN checkpoint USING (ns, id)
                     WHERE lineage = ?1 AND parent IS NOT NULL AND {NEEDS_PARENT})
             DELETE FROM checkpoint WHERE lineage = ?1 AND (ns, id) NOT IN (SELECT ns, id FROM kept)"
        ))?
        .execute([lineage])?;
    sweep(connection, lineage)
}

/// Deletes the blobs and writes of a thread that no checkpoint refers to any more.
fn sweep(connection: &Connection, lineage: i64) -> Done<()> {
    let mut kept = HashSet::new();
    let mut query = connection.prepare_cached("SELECT ns, id, checkpoint FROM checkpoint WHERE lineage = ?1")?;
    let checkpoints = all(&mut query, &[&lineage], |row| {
        let (ns, id): (String, String) = (row.get(0)?, row.get(1)?);
        let place = Place::Checkpoint { column: "checkpoint", ns: &ns, id: &id };
        let checkpoint = documents::unpack(connection.cipher().open(place, row.get(2)?)?)?;
        Ok((ns, checkpoint))
    })?;
    for (ns, checkpoint) in checkpoints {
        kept.extend(versions(&checkpoint)?.into_iter().map(|(channel, version)| (ns.clone(), channel, version)));
    }
    let mut query = connection.prepare_cached("SELECT ns, channel, version, base FROM blob WHERE lineage = ?1")?;
    let stored = all(&mut query, &[&lineage], |row| {
        let blob: (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok((blob, row.get::<_, Option<String>>(3)?))
    })?;
    for (blob @ (ns, name, version), base) in &stored {
        let loses = |base: &String| !kept.contains(&(ns.clone(), name.clone(), base.clone()));
        if kept.contains(blob) && base.as_ref().is_some_and(loses) {
            blobs::make_whole(connection, Channel { lineage, ns, name }, version)?;
        }
    }
    let mut delete = connection
        .prepare_cached("DELETE FROM blob WHERE lineage = ?1 AND ns = ?2 AND channel = ?3 AND version = ?4")?;
    for (ns, channel, version) in stored.into_iter().map(|(blob, _)| blob).filter(|blob| !kept.contains(blob)) {
        delete.execute(params![lineage, ns, channel, version])?;
    }
    connection
        .prepare_cached(
            "DELETE FROM pending_write WHERE lineage = ?1 AND NOT EXISTS (
                 SELECT 1 FROM checkpoint WHERE checkpoint.lineage = ?1 AND checkpoint.ns = pending_write.ns
                     AND checkpoint.id = pending_write.checkpoint)",
        )?
        .execute([lineage])?;
    Ok(())
}

pub(super) fn copy(connection: &Connection, source: &Value, target: &Value) -> Done<()> {
    let Some(from) = lineage(connection, source)? else { return Ok(()) };
    let to = make_lineage(connection, target)?;
    if from == to {
        return Err(StorageError::Bug("a thread can't be copied onto itself".into()).into());
    }
    for sql in [
        "INSERT OR REPLACE INTO checkpoint (lineage, ns, id, parent, checkpoint, metadata, named_run)
         SELECT ?2, ns, id, parent, checkpoint, metadata,
             coalesce(named_run, json_extract(opened_metadata(ns, id, metadata), '$.run_id'))
         FROM checkpoint WHERE lineage = ?1",
        "INSERT OR REPLACE INTO blob
         SELECT ?2, ns, channel, version, kind, data, base, base_from, head, copied, nth, packed
         FROM blob WHERE lineage = ?1",
        "INSERT OR REPLACE INTO pending_write
         SELECT ?2, ns, checkpoint, task, idx, path, channel, kind, data FROM pending_write WHERE lineage = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([from, to])?;
    }
    Ok(())
}

/// Has the metadata of a thread's checkpoints name that thread.
pub(super) fn rename(connection: &Connection, thread: &str) -> Done<()> {
    let Some(lineage) = lineage(connection, &lineage_key(thread))? else { return Ok(()) };
    let mut query = connection.prepare_cached(
        "SELECT ns, id, json_replace(opened_metadata(ns, id, metadata), '$.thread_id', ?2) FROM checkpoint
         WHERE lineage = ?1",
    )?;
    let mut update =
        connection.prepare_cached("UPDATE checkpoint SET metadata = ?4 WHERE lineage = ?1 AND ns = ?2 AND id = ?3")?;
    let renamed = all(&mut query, &[&lineage, &thread], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    })?;
    for (ns, id, metadata) in renamed {
        let place = Place::Checkpoint { column: "metadata", ns: &ns, id: &id };
        let metadata = connection.cipher().seal(place, metadata.into_bytes())?;
        update.execute(params![lineage, ns, id, metadata])?;
    }
    Ok(())
}

/// What the checkpoints of a thread occupy.
pub(super) fn usage(connection: &Connection, thread: &Value) -> Done<ThreadStorage> {
    let Some(lineage) = lineage(connection, thread)? else { return Ok(ThreadStorage::default()) };
    let total = |sql| -> Done<Usage> {
        let row = connection.prepare_cached(sql)?.query_row([lineage], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(used(row))
    };
    let mut query = connection.prepare_cached(
        "SELECT channel, count(*), sum(length(data)) FROM blob WHERE lineage = ?1 GROUP BY channel ORDER BY channel",
    )?;
    Ok(ThreadStorage {
        checkpoints: total(
            "SELECT count(*), coalesce(sum(length(checkpoint) + length(metadata)), 0) FROM checkpoint WHERE lineage = ?1",
        )?,
        channels: all(&mut query, &[&lineage], |row| Ok((row.get(0)?, used((row.get(1)?, row.get(2)?)))))?,
        pending_writes: total("SELECT count(*), coalesce(sum(length(data)), 0) FROM pending_write WHERE lineage = ?1")?,
    })
}

fn used((count, bytes): (i64, i64)) -> Usage {
    Usage { count: count.unsigned_abs(), bytes: bytes.unsigned_abs() }
}
