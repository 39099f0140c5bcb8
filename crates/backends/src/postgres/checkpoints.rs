//! Checkpoints in PostgreSQL: what LangGraph saves, found by thread, namespace and id, and never looked into beyond the
//! channel versions that say which blobs belong to it.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::try_join;
use threadyard_core::{
    checkpoints::{
        Blob, CheckpointQuery, CheckpointTuple, Checkpoints, Committed, PruneStrategy, PutCheckpoint, PutWrites, Write,
        Writer,
    },
    storage::{Result, StorageError},
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Client, PostgresStorage,
    blobs::{self, Columns, Wanted},
    failures::Done,
    lane_key,
    lanes::{Alone, Place},
    lineages,
    rows::{Parameter, Text, all, escaped, get, optional_string, string},
    scans::{contains, scan},
    sql::Sql,
};
use crate::{
    cipher::{Cipher, Place as Sealed},
    documents::{self, named_run, needs_parent, place_of, versions},
    growth::{Channel, Head, Heads, Stored},
};

#[async_trait]
impl Checkpoints for PostgresStorage {
    fn put_checkpoint(&self, writer: Writer, put: PutCheckpoint) -> Committed {
        // What a value builds on is read before it is written, and must stay there in between.
        let grows = put.blobs.iter().any(blobs::may_grow);
        let alone = if grows { Alone::Transaction } else { Alone::Statement };
        let place = Place { key: self.order(writer, &put.thread), alone };
        self.lanes.promise(place, (self.heads.clone(), writer, put), |client, (heads, writer, put)| {
            Box::pin(save(client, heads, *writer, put))
        })
    }

    fn put_writes(&self, writer: Writer, put: PutWrites) -> Committed {
        let place = Place { key: self.order(writer, &put.thread), alone: Alone::Statement };
        self.lanes.promise(place, (writer, put), |client, (writer, put)| Box::pin(save_writes(client, *writer, put)))
    }

    async fn checkpoint(&self, thread: &str, ns: &str, id: Option<&str>) -> Result<Option<CheckpointTuple>> {
        Ok(find(&self.client().await?, thread, ns, id).await?)
    }

    async fn list_checkpoints(&self, query: CheckpointQuery) -> Result<Vec<CheckpointTuple>> {
        let mut client = self.client().await?;
        let limit = query.limit.map_or(usize::MAX, |limit| limit as usize);
        let mut found = Vec::new();
        if limit > 0 {
            let cipher = client.cipher().clone();
            scan(&mut client, &matching(&query), |row| {
                if query.filter.is_empty() || contains(Some(&metadata(&cipher, row)?), &query.filter) {
                    found.push(row.clone());
                }
                Ok(found.len() >= limit)
            })
            .await?;
        }
        Ok(tuples(&client, &found).await?)
    }

    async fn delete_checkpoints(&self, thread: &str) -> Result<()> {
        self.transact(thread.to_owned(), |client, thread| Box::pin(lineages::forget(client, thread))).await
    }

    async fn delete_run_checkpoints(&self, runs: Vec<String>) -> Result<()> {
        self.transact(runs, |client, runs| Box::pin(lineages::forget_runs(client, runs))).await
    }

    async fn copy_checkpoints(&self, source: &str, target: &str) -> Result<()> {
        self.transact((source.to_owned(), target.to_owned()), |client, (source, target)| {
            Box::pin(lineages::copy(client, source, target, None))
        })
        .await
    }

    async fn prune_checkpoints(&self, threads: Vec<String>, strategy: PruneStrategy) -> Result<()> {
        self.transact((threads, strategy), |client, (threads, strategy)| {
            Box::pin(async move {
                for thread in threads {
                    match strategy {
                        PruneStrategy::Delete => lineages::forget(client, thread).await?,
                        PruneStrategy::KeepLatest => lineages::keep_latest(client, thread).await?,
                    }
                }
                Ok(())
            })
        })
        .await
    }
}

impl PostgresStorage {
    fn order(&self, writer: Writer, thread: &str) -> u64 {
        match writer {
            Writer::Run(lease) => self.home(lease).key,
            Writer::Call => lane_key(thread),
        }
    }
}

/// Begins a statement that writes to a thread: `held` is the lease, if there is one, and `place` the thread's lineage,
/// which is made if need be. Whoever takes leases away, or prunes the lineage, waits for the end of the transaction.
macro_rules! under_lease {
    ($rest:literal) => {
        concat!(
            "WITH held AS (
                 SELECT 1 FROM run WHERE id = $1 AND lease_id = $2 AND status = 'running' FOR KEY SHARE),
             known AS (
                 SELECT k FROM lineage WHERE thread = $3 AND ($1::uuid IS NULL OR EXISTS (SELECT FROM held))
                 FOR KEY SHARE),
             made AS (
                 INSERT INTO lineage (thread) SELECT $3
                 WHERE ($1::uuid IS NULL OR EXISTS (SELECT FROM held)) AND NOT EXISTS (SELECT FROM known)
                 ON CONFLICT (thread) DO UPDATE SET thread = excluded.thread RETURNING k),
             place AS (SELECT k FROM known UNION ALL SELECT k FROM made)",
            $rest
        )
    };
}

const SAVE: &str = under_lease!(
    ", grown AS (
         INSERT INTO blob (lineage, ns, channel, version, kind, data, packed, base, base_from, head, copied, nth)
         SELECT k, $4, new.* FROM place, unnest($11::text[], $12::text[], $13::text[], $14::bytea[], $15::boolean[],
             $16::text[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[]) AS new
         ON CONFLICT DO NOTHING),
     saved AS (
         INSERT INTO checkpoint (lineage, ns, id, parent, checkpoint, metadata, needs_parent, run, named_run)
         SELECT k, $4, $5, $6, $7, $8, $9, $1, $10 FROM place
         ON CONFLICT (lineage, ns, id) DO UPDATE SET parent = excluded.parent, checkpoint = excluded.checkpoint,
             metadata = excluded.metadata, needs_parent = excluded.needs_parent, run = excluded.run,
             named_run = excluded.named_run)
     SELECT k FROM place"
);

const SAVE_WRITES: &str = under_lease!(
    ", saved AS (
         INSERT INTO pending_write (lineage, ns, checkpoint, task, idx, path, channel, kind, data)
         SELECT k, $4, $5, new.* FROM place, unnest($6::text[], $7::bigint[], $8::text[], $9::text[], $10::text[],
             $11::bytea[]) AS new
         ON CONFLICT (lineage, ns, checkpoint, task, idx) DO UPDATE SET path = excluded.path,
             channel = excluded.channel, kind = excluded.kind, data = excluded.data WHERE excluded.idx < 0)
     SELECT k FROM place"
);

fn lease(writer: Writer) -> (Option<Uuid>, Option<Uuid>) {
    match writer {
        Writer::Run(lease) => (Some(lease.run_id.0), Some(lease.lease_id.0)),
        Writer::Call => (None, None),
    }
}

async fn save(client: &Client, heads: &Arc<Heads>, writer: Writer, put: &PutCheckpoint) -> Done<()> {
    let grows = put.blobs.iter().any(blobs::may_grow);
    let lineage = if grows { lineages::share(client, &put.thread).await? } else { None };
    let bases = match lineage {
        Some(lineage) => blobs::bases(client, heads, lineage, &put.ns, &put.blobs).await?,
        None => put.blobs.iter().map(|_| (0, None)).collect(),
    };
    let (mut columns, mut places) = (Columns::default(), Vec::new());
    for (blob, (nth, base)) in put.blobs.iter().zip(&bases) {
        let stored = Stored::new(&blob.data, base.as_deref(), *nth);
        places.push(stored.nth);
        // A value is sealed wherever its thread is, which may be made only now.
        let channel = Channel { lineage: 0, ns: &put.ns, name: &blob.channel };
        columns.push(blob, stored.sealed(client.cipher(), channel, blob)?);
    }
    let lineage = insert(client, writer, put, &columns).await?;
    for (blob, nth) in put.blobs.iter().zip(places).filter(|(blob, _)| blobs::may_grow(blob)) {
        let channel = Channel { lineage, ns: &put.ns, name: &blob.channel };
        heads.insert(channel, Head { version: blob.version.clone(), data: blob.data.clone(), nth });
    }
    Ok(())
}

/// Inserts a checkpoint with its values, and says where.
async fn insert(client: &Client, writer: Writer, put: &PutCheckpoint, columns: &Columns<'_>) -> Done<i64> {
    let (run, lease) = lease(writer);
    let named = named_run(writer, &put.metadata);
    let place = |column| Sealed::Checkpoint { column, ns: &put.ns, id: &put.id };
    let checkpoint = client.cipher().seal(place("checkpoint"), documents::pack(&put.checkpoint))?;
    let metadata = client.cipher().seal(place("metadata"), &*put.metadata)?;
    let parameters: [Parameter<'_>; 20] = [
        &run,
        &lease,
        &Text(&put.thread),
        &Text(&put.ns),
        &Text(&put.id),
        &put.parent.as_deref().map(Text),
        &checkpoint,
        &metadata,
        &needs_parent(&put.metadata),
        &named.as_deref().map(Text),
        &columns.channels,
        &columns.versions,
        &columns.kinds,
        &columns.data,
        &columns.packed,
        &columns.bases,
        &columns.from,
        &columns.heads,
        &columns.copied,
        &columns.nth,
    ];
    let place = all(client, SAVE, &parameters).await?;
    get(place.first().ok_or(StorageError::LeaseLost)?, "k")
}

async fn save_writes(client: &Client, writer: Writer, put: &PutWrites) -> Done<()> {
    let (run, lease) = lease(writer);
    let kept = without_repetitions(&put.writes);
    let column = |text: fn(&Write) -> &str| kept.iter().map(|write| Text(text(write))).collect::<Vec<_>>();
    let places: Vec<_> = kept.iter().map(|write| write.index).collect();
    let sealed = kept.iter().map(|write| client.cipher().seal(place_of(&put.ns, &put.id, write), &write.data[..]));
    let data = sealed.collect::<Result<Vec<_>>>()?;
    let parameters: [Parameter<'_>; 11] = [
        &run,
        &lease,
        &Text(&put.thread),
        &Text(&put.ns),
        &Text(&put.id),
        &column(|write| &write.task),
        &places,
        &column(|write| &write.path),
        &column(|write| &write.channel),
        &column(|write| &write.kind),
        &data,
    ];
    let place = all(client, SAVE_WRITES, &parameters).await?;
    place.first().map(|_| ()).ok_or(StorageError::LeaseLost.into())
}

/// The writes that stay of several to one place, which one statement may not write twice.
fn without_repetitions(writes: &[Write]) -> Vec<&Write> {
    let mut kept: Vec<&Write> = Vec::with_capacity(writes.len());
    let mut places = HashMap::with_capacity(writes.len());
    for write in writes {
        match places.get(&(&write.task, write.index)) {
            Some(&earlier) if write.index < 0 => kept[earlier] = write,
            Some(_) => {}
            None => {
                places.insert((&write.task, write.index), kept.len());
                kept.push(write);
            }
        }
    }
    kept
}

/// The checkpoint with this id, or the newest.
pub(super) async fn find(client: &Client, thread: &str, ns: &str, id: Option<&str>) -> Done<Option<CheckpointTuple>> {
    let sql = format!(
        "SELECT {COLUMNS} {JOINED} WHERE lineage.thread = $1 AND ns = $2 AND {} ORDER BY id DESC LIMIT 1",
        if id.is_some() { "id = $3" } else { "$3::text IS NULL" }
    );
    let rows = all(client, &sql, &[&Text(thread), &Text(ns), &id.map(Text)]).await?;
    Ok(tuples(client, &rows).await?.pop())
}

/// What of a checkpoint is read, under names that those of a run leave free.
pub(super) const COLUMNS: &str = "lineage.k AS checkpoint_lineage, lineage.thread AS checkpoint_thread, ns AS checkpoint_ns,
     checkpoint.id AS checkpoint_id, parent AS checkpoint_parent, checkpoint, checkpoint.metadata AS checkpoint_metadata";
const JOINED: &str = "FROM checkpoint JOIN lineage ON lineage.k = checkpoint.lineage";

fn matching(query: &CheckpointQuery) -> Sql {
    let mut sql = Sql::new(&format!("SELECT {COLUMNS} {JOINED} WHERE true"));
    let mut narrow = |text: &str, wanted: &Option<String>| {
        if let Some(wanted) = wanted {
            sql.with(text, escaped(wanted).into_owned());
        }
    };
    narrow("AND lineage.thread = ?", &query.thread);
    narrow("AND ns = ?", &query.ns);
    narrow("AND id < ?", &query.before);
    sql.add("ORDER BY id DESC");
    if let Some(limit) = query.limit.filter(|_| query.filter.is_empty()) {
        sql.with("LIMIT ?", i64::from(limit));
    }
    sql
}

/// Checkpoints with their values and writes, in the order of their rows.
pub(super) async fn tuples(client: &Client, rows: &[Row]) -> Done<Vec<CheckpointTuple>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = rows.iter().map(|row| tuple(client.cipher(), row)).collect::<Done<Vec<_>>>()?;
    let mut wanted = Vec::new();
    for (nth, (lineage, tuple)) in found.iter().enumerate() {
        let mut versions: Vec<_> = versions(&tuple.checkpoint)?.into_iter().collect();
        versions.sort_unstable();
        wanted.extend(versions.into_iter().map(|(name, version)| (nth, *lineage, tuple.ns.clone(), name, version)));
    }
    let asked: Vec<_> = wanted
        .iter()
        .map(|(_, lineage, ns, name, version)| Wanted { channel: Channel { lineage: *lineage, ns, name }, version })
        .collect();
    let (values, writes) = try_join!(blobs::load(client, &asked), writes(client, &found))?;
    for ((nth, _, _, channel, version), value) in wanted.into_iter().zip(values) {
        if let Some(value) = value {
            found[nth].1.blobs.push(Blob { channel, version, kind: value.kind, data: value.data.into() });
        }
    }
    for (nth, write) in writes {
        found[nth].1.writes.push(write);
    }
    Ok(found.into_iter().map(|(_, tuple)| tuple).collect())
}

async fn writes(client: &Client, found: &[(i64, CheckpointTuple)]) -> Done<Vec<(usize, Write)>> {
    let lineages: Vec<_> = found.iter().map(|(lineage, _)| lineage).collect();
    let ns: Vec<_> = found.iter().map(|(_, tuple)| Text(&tuple.ns)).collect();
    let ids: Vec<_> = found.iter().map(|(_, tuple)| Text(&tuple.id)).collect();
    let rows = all(
        client,
        "SELECT place, task, path, idx, channel, kind, data
         FROM unnest($1::bigint[], $2::text[], $3::text[]) WITH ORDINALITY AS wanted (lineage, ns, id, place)
         JOIN pending_write ON pending_write.lineage = wanted.lineage AND pending_write.ns = wanted.ns COLLATE \"C\"
             AND checkpoint = wanted.id COLLATE \"C\" ORDER BY place, path, task, idx",
        &[&lineages, &ns, &ids],
    )
    .await?;
    let write = |row: &Row| {
        let place = usize::try_from(get::<i64>(row, "place")?).unwrap_or_default() - 1;
        let write = Write {
            task: string(row, "task")?,
            path: string(row, "path")?,
            index: get(row, "idx")?,
            channel: string(row, "channel")?,
            kind: string(row, "kind")?,
            data: Bytes::new(),
        };
        let (_, CheckpointTuple { ns, id, .. }) = &found[place];
        let data = client.cipher().open(place_of(ns, id, &write), get(row, "data")?)?;
        Ok((place, Write { data: data.into(), ..write }))
    };
    rows.iter().map(write).collect()
}

fn metadata(cipher: &Cipher, row: &Row) -> Done<Vec<u8>> {
    let (ns, id) = (string(row, "checkpoint_ns")?, string(row, "checkpoint_id")?);
    let place = Sealed::Checkpoint { column: "metadata", ns: &ns, id: &id };
    Ok(cipher.open(place, get(row, "checkpoint_metadata")?)?)
}

fn tuple(cipher: &Cipher, row: &Row) -> Done<(i64, CheckpointTuple)> {
    let (ns, id) = (string(row, "checkpoint_ns")?, string(row, "checkpoint_id")?);
    let place = Sealed::Checkpoint { column: "checkpoint", ns: &ns, id: &id };
    let checkpoint = cipher.open(place, get(row, "checkpoint")?)?;
    let tuple = CheckpointTuple {
        thread: string(row, "checkpoint_thread")?,
        parent: optional_string(row, "checkpoint_parent")?,
        checkpoint: documents::unpack(checkpoint)?.into(),
        metadata: metadata(cipher, row)?.into(),
        ns,
        id,
        blobs: Vec::new(),
        writes: Vec::new(),
    };
    Ok((get(row, "checkpoint_lineage")?, tuple))
}
