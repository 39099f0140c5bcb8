//! The checkpoints of whole threads: copied, pruned, measured and deleted, with the blobs and writes that belong to them.
//!
//! Whoever writes to a lineage holds a share of its lock, and whoever deletes from it holds all of it: nothing is deleted
//! that something new needs.

use std::collections::HashSet;

use futures_util::try_join;
use threadyard_core::{
    checkpoints::Writer,
    ids::{RunId, ThreadId},
    json::{RawObject, raw},
    storage::StorageError,
    threads::{ThreadStorage, Usage},
};
use tokio_postgres::Row;

use super::{
    Client, blobs,
    failures::Done,
    rows::{Parameter, Text, all, execute, first, get, one, optional_string, string},
};
use crate::{
    cipher::{Cipher, Place},
    documents::{self, named_run, versions},
    growth::Channel,
};

/// The lineage of a thread, which is not deleted from until the end of the transaction.
pub(super) async fn share(client: &Client, thread: &str) -> Done<Option<i64>> {
    let found = first(client, "SELECT k FROM lineage WHERE thread = $1 FOR KEY SHARE", &[&Text(thread)]).await?;
    found.map(|row| get(&row, "k")).transpose()
}

/// The lineage of a thread, for oneself until the end of the transaction.
async fn lock(client: &Client, thread: &str) -> Done<Option<i64>> {
    let found = first(client, "SELECT k FROM lineage WHERE thread = $1 FOR UPDATE", &[&Text(thread)]).await?;
    found.map(|row| get(&row, "k")).transpose()
}

/// Deletes everything of a thread.
pub(super) async fn forget(client: &Client, thread: &str) -> Done<()> {
    let Some(lineage) = lock(client, thread).await? else { return Ok(()) };
    let sql = "WITH checkpoints AS (DELETE FROM checkpoint WHERE lineage = $1),
             blobs AS (DELETE FROM blob WHERE lineage = $1),
             writes AS (DELETE FROM pending_write WHERE lineage = $1)
         DELETE FROM lineage WHERE k = $1";
    execute(client, sql, &[&lineage]).await?;
    Ok(())
}

/// Deletes the checkpoints that a run wrote, and what belongs to them alone. What later values are made from stays.
pub(super) async fn undo(client: &Client, run: RunId) -> Done<()> {
    delete(client, "run = $1", &run.0).await
}

/// Deletes the checkpoints whose metadata name these runs, which need not be the ones that wrote them.
pub(super) async fn forget_runs(client: &Client, runs: &[String]) -> Done<()> {
    for run in runs {
        delete(client, "named_run = $1", &Text(run)).await?;
        if let Ok(run) = run.parse::<RunId>() {
            delete(client, "run = $1 AND named_run IS NULL", &run.0).await?;
        }
    }
    Ok(())
}

async fn delete(client: &Client, of_run: &str, run: Parameter<'_>) -> Done<()> {
    let touched = format!(
        "SELECT k FROM lineage WHERE k IN (SELECT lineage FROM checkpoint WHERE {of_run}) ORDER BY k FOR UPDATE"
    );
    let delete = format!(
        "WITH RECURSIVE needed (ns, id) AS (
             SELECT ns, parent FROM checkpoint WHERE lineage = $2 AND ({of_run}) IS NOT TRUE AND needs_parent
             UNION SELECT checkpoint.ns, checkpoint.parent FROM needed JOIN checkpoint USING (ns, id)
                 WHERE lineage = $2 AND needs_parent)
         DELETE FROM checkpoint WHERE lineage = $2 AND ({of_run}) AND (ns, id) NOT IN (
             SELECT ns, id FROM needed WHERE id IS NOT NULL)"
    );
    for row in all(client, &touched, &[run]).await? {
        let lineage: i64 = get(&row, "k")?;
        execute(client, &delete, &[run, &lineage]).await?;
        sweep(client, lineage).await?;
    }
    Ok(())
}

/// Deletes all but the newest checkpoint of each namespace, and those that its value is made from.
pub(super) async fn keep_latest(client: &Client, thread: &str) -> Done<()> {
    let Some(lineage) = lock(client, thread).await? else { return Ok(()) };
    let sql = "WITH RECURSIVE kept (ns, id) AS (
             SELECT ns, max(id) FROM checkpoint WHERE lineage = $1 GROUP BY ns
             UNION SELECT checkpoint.ns, checkpoint.parent FROM kept JOIN checkpoint USING (ns, id)
                 WHERE lineage = $1 AND checkpoint.parent IS NOT NULL AND needs_parent)
         DELETE FROM checkpoint WHERE lineage = $1 AND (ns, id) NOT IN (SELECT ns, id FROM kept)";
    execute(client, sql, &[&lineage]).await?;
    sweep(client, lineage).await
}

/// Deletes the blobs and writes of a thread that no checkpoint refers to any more.
async fn sweep(client: &Client, lineage: i64) -> Done<()> {
    let mut kept = HashSet::new();
    for row in all(client, "SELECT ns, id, checkpoint FROM checkpoint WHERE lineage = $1", &[&lineage]).await? {
        let (ns, id) = (string(&row, "ns")?, string(&row, "id")?);
        let place = Place::Checkpoint { column: "checkpoint", ns: &ns, id: &id };
        let checkpoint = documents::unpack(client.cipher().open(place, get(&row, "checkpoint")?)?)?;
        kept.extend(versions(&checkpoint)?.into_iter().map(|(channel, version)| (ns.clone(), channel, version)));
    }
    let rows = all(client, "SELECT ns, channel, version, base FROM blob WHERE lineage = $1", &[&lineage]).await?;
    let mut unneeded = Vec::new();
    for row in &rows {
        let blob = (string(row, "ns")?, string(row, "channel")?, string(row, "version")?);
        if !kept.contains(&blob) {
            unneeded.push(blob);
            continue;
        }
        let (ns, name, version) = blob;
        if let Some(base) = optional_string(row, "base")?
            && !kept.contains(&(ns.clone(), name.clone(), base))
        {
            blobs::make_whole(client, Channel { lineage, ns: &ns, name: &name }, &version).await?;
        }
    }
    let ns: Vec<_> = unneeded.iter().map(|(ns, _, _)| Text(ns)).collect();
    let channels: Vec<_> = unneeded.iter().map(|(_, channel, _)| Text(channel)).collect();
    let versions: Vec<_> = unneeded.iter().map(|(_, _, version)| Text(version)).collect();
    let sql = "WITH blobs AS (
             DELETE FROM blob USING unnest($2::text[], $3::text[], $4::text[]) AS unneeded (ns, channel, version)
             WHERE lineage = $1 AND blob.ns = unneeded.ns COLLATE \"C\"
                 AND blob.channel = unneeded.channel COLLATE \"C\" AND blob.version = unneeded.version COLLATE \"C\")
         DELETE FROM pending_write WHERE lineage = $1 AND NOT EXISTS (
             SELECT 1 FROM checkpoint WHERE checkpoint.lineage = $1 AND checkpoint.ns = pending_write.ns
                 AND checkpoint.id = pending_write.checkpoint)";
    execute(client, sql, &[&lineage, &ns, &channels, &versions]).await?;
    Ok(())
}

/// Copies all checkpoints of a thread; their metadata then name another, if they name one.
pub(super) async fn copy(client: &Client, source: &str, target: &str, renamed: Option<&str>) -> Done<()> {
    let Some(from) = share(client, source).await? else { return Ok(()) };
    let made = "INSERT INTO lineage (thread) VALUES ($1) ON CONFLICT (thread) DO UPDATE SET thread = excluded.thread
         RETURNING k";
    let to: i64 = get(&one(client, made, &[&Text(target)]).await?, "k")?;
    if from == to {
        return Err(StorageError::Bug("a thread can't be copied onto itself".into()).into());
    }
    let rows = all(client, "SELECT ns, id, metadata, named_run FROM checkpoint WHERE lineage = $1", &[&from]).await?;
    let copies = rows.iter().map(|row| metadata(client.cipher(), row, renamed)).collect::<Done<Vec<_>>>()?;
    let ns: Vec<&str> = rows.iter().map(|row| get(row, "ns")).collect::<Done<_>>()?;
    let ids: Vec<&str> = rows.iter().map(|row| get(row, "id")).collect::<Done<_>>()?;
    let metadata: Vec<_> = copies.iter().map(|(metadata, _)| &metadata[..]).collect();
    let named: Vec<_> = copies.iter().map(|(_, named)| named.as_deref().map(Text)).collect();
    let (checkpoints, both): ([Parameter<'_>; 6], [Parameter<'_>; 2]) =
        ([&from, &to, &ns, &ids, &metadata, &named], [&from, &to]);
    try_join!(
        execute(client, COPY_CHECKPOINTS, &checkpoints),
        execute(client, COPY_BLOBS, &both),
        execute(client, COPY_WRITES, &both)
    )?;
    Ok(())
}

const COPY_CHECKPOINTS: &str =
    "INSERT INTO checkpoint (lineage, ns, id, parent, checkpoint, metadata, needs_parent, named_run)
     SELECT $2, old.ns, old.id, parent, checkpoint, new.metadata, needs_parent, new.named
     FROM unnest($3::text[], $4::text[], $5::bytea[], $6::text[]) AS new (ns, id, metadata, named)
     JOIN checkpoint AS old ON lineage = $1 AND old.ns = new.ns COLLATE \"C\" AND old.id = new.id COLLATE \"C\"
     ON CONFLICT (lineage, ns, id) DO UPDATE SET parent = excluded.parent, checkpoint = excluded.checkpoint,
         metadata = excluded.metadata, needs_parent = excluded.needs_parent, run = NULL,
         named_run = excluded.named_run";

const COPY_BLOBS: &str =
    "INSERT INTO blob (lineage, ns, channel, version, kind, data, base, base_from, head, copied, nth, packed)
     SELECT $2, ns, channel, version, kind, data, base, base_from, head, copied, nth, packed FROM blob WHERE lineage = $1
     ON CONFLICT (lineage, ns, channel, version) DO UPDATE SET kind = excluded.kind, data = excluded.data,
         base = excluded.base, base_from = excluded.base_from, head = excluded.head, copied = excluded.copied,
         nth = excluded.nth, packed = excluded.packed";

const COPY_WRITES: &str = "INSERT INTO pending_write (lineage, ns, checkpoint, task, idx, path, channel, kind, data)
     SELECT $2, ns, checkpoint, task, idx, path, channel, kind, data FROM pending_write WHERE lineage = $1
     ON CONFLICT (lineage, ns, checkpoint, task, idx) DO UPDATE SET path = excluded.path, channel = excluded.channel,
         kind = excluded.kind, data = excluded.data";

/// The metadata of a copy, and the run that they name: no run wrote it.
fn metadata(cipher: &Cipher, row: &Row, renamed: Option<&str>) -> Done<(Vec<u8>, Option<String>)> {
    let (ns, id) = (string(row, "ns")?, string(row, "id")?);
    let place = Place::Checkpoint { column: "metadata", ns: &ns, id: &id };
    let mut metadata = cipher.open(place, get(row, "metadata")?)?;
    let named = optional_string(row, "named_run")?.or_else(|| named_run(Writer::Call, &metadata));
    if let Some(thread) = renamed
        && let Ok(mut fields) = serde_json::from_slice::<RawObject>(&metadata)
        && let Some(name) = fields.get_mut("thread_id")
    {
        *name = raw(&thread);
        metadata = serde_json::to_vec(&fields)?;
    }
    Ok((cipher.seal(place, metadata)?.into_owned(), named))
}

/// What the checkpoints of a thread occupy.
pub(super) async fn usage(client: &Client, thread: ThreadId) -> Done<ThreadStorage> {
    let thread = thread.to_string();
    let of_thread = "lineage = (SELECT k FROM lineage WHERE thread = $1)";
    let sizes = |bytes: &str, table: &str| {
        format!("SELECT count(*), coalesce(sum({bytes}), 0)::bigint FROM {table} WHERE {of_thread}")
    };
    let checkpoints = sizes("octet_length(checkpoint) + octet_length(metadata)", "checkpoint");
    let writes = sizes("octet_length(data)", "pending_write");
    let channels = format!(
        "SELECT count(*), sum(octet_length(data))::bigint, channel FROM blob WHERE {of_thread}
         GROUP BY channel ORDER BY channel"
    );
    let parameters: [Parameter<'_>; 1] = [&Text(&thread)];
    let (checkpoints, writes, channels) = try_join!(
        one(client, &checkpoints, &parameters),
        one(client, &writes, &parameters),
        all(client, &channels, &parameters)
    )?;
    Ok(ThreadStorage {
        checkpoints: used(&checkpoints)?,
        channels: channels.iter().map(|row| Ok((string(row, "channel")?, used(row)?))).collect::<Done<_>>()?,
        pending_writes: used(&writes)?,
    })
}

fn used(row: &Row) -> Done<Usage> {
    Ok(Usage { count: get::<i64>(row, 0)?.unsigned_abs(), bytes: get::<i64>(row, 1)?.unsigned_abs() })
}
