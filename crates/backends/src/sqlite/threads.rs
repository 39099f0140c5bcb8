//! Threads in SQLite. Whether a thread is busy is never stored: it follows from its runs.

use std::borrow::Cow;

use async_trait::async_trait;
use rusqlite::{Row, params};
use threadyard_core::{
    ids::{RunId, ThreadId},
    json::Object,
    metadata_filter::MetadataFilter,
    page::{Page, Window},
    retention::ThreadTtl,
    runs::RunStatus,
    storage::Result,
    threads::{
        CopyThread, CreatedThread, DeletedThread, NewThread, SavedState, Thread, ThreadHead, ThreadOutcome,
        ThreadPatch, ThreadQuery, ThreadStorage, ThreadUpdate, ThreadValues, Threads, UpdatedThread,
    },
    time::Timestamp,
};

use super::{
    Connection, Done, SqliteStorage, lineages,
    rows::{all, first, key, lineage_key, name, object, opened, opened_as, text, time, uuid, word},
    thread_search,
};
use crate::{cipher::Place, saved_state};

/// A thread's row with its derived status.
const THREAD: &str = "SELECT *, CASE WHEN EXISTS (
        SELECT 1 FROM run WHERE run.thread = thread.k AND run.status IN ('pending', 'running')
    ) THEN 'busy' ELSE rest_status END AS derived_status FROM thread";

#[async_trait]
impl Threads for SqliteStorage {
    async fn create_thread(&self, new: NewThread) -> Result<CreatedThread> {
        self.writer
            .write(move |connection| {
                let made = insert(connection, &new, &Object::new())?.is_some();
                let thread = find(connection, new.thread_id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
                Ok(if made { CreatedThread::New(thread) } else { CreatedThread::Existing(thread) })
            })
            .await
    }

    async fn thread(&self, id: ThreadId) -> Result<Option<Thread>> {
        match self.readers.look_up(move |connection| small(connection, id, thread)).await? {
            Size::Small(found) => Ok(found),
            Size::Large => self.readers.read(move |connection| find(connection, id)).await,
        }
    }

    async fn thread_head(&self, id: ThreadId) -> Result<Option<ThreadHead>> {
        match self.readers.look_up(move |connection| small(connection, id, head)).await? {
            Size::Small(found) => Ok(found),
            Size::Large => self.readers.read(move |connection| find_as(connection, id, head)).await,
        }
    }

    async fn search_threads(&self, query: ThreadQuery, window: Window) -> Result<Page<Thread>> {
        self.readers
            .read(move |connection| {
                let mut found = Vec::new();
                let mut one = connection.prepare_cached(&format!("{THREAD} WHERE k = ?1"))?;
                for k in thread_search::keys(connection, &query, window)? {
                    found.extend(first(&mut one, &[&k], |row| thread(connection, row))?);
                }
                Ok(Page::from_probe(found, window))
            })
            .await
    }

    async fn count_threads(&self, query: ThreadQuery) -> Result<u64> {
        self.readers.read(move |connection| thread_search::count(connection, &query)).await
    }

    async fn patch_thread(&self, id: ThreadId, patch: ThreadPatch, now: Timestamp) -> Result<Option<Thread>> {
        self.writer
            .write(move |connection| {
                if !admitted(connection, id, &patch.within)? {
                    return Ok(None);
                }
                merge_metadata(connection, id, patch.metadata)?;
                let (ttl, strategy) = ttl(patch.ttl)?;
                connection
                    .prepare_cached(
                        "UPDATE thread SET updated_at = ?2, ttl = coalesce(?3, ttl),
                             ttl_strategy = coalesce(?4, ttl_strategy), expires_at = ?2 + coalesce(?3, ttl)
                         WHERE id = ?1",
                    )?
                    .execute(params![key(id), now.0, ttl, strategy])?;
                find(connection, id)
            })
            .await
    }

    async fn copy_thread(&self, it: CopyThread) -> Result<Option<Thread>> {
        self.writer.write(move |connection| copy(connection, &it)).await
    }

    async fn thread_storage(&self, id: ThreadId) -> Result<Option<ThreadStorage>> {
        self.readers
            .read(move |connection| match find(connection, id)? {
                None => Ok(None),
                Some(_) => lineages::usage(connection, &lineage_key(&id.to_string())).map(Some),
            })
            .await
    }

    async fn update_thread(
        &self,
        id: ThreadId,
        within: MetadataFilter,
        update: ThreadUpdate,
        now: Timestamp,
    ) -> Result<UpdatedThread> {
        self.writer
            .write(move |connection| {
                if !admitted(connection, id, &within)? {
                    return Ok(UpdatedThread::Missing);
                }
                leave(connection, id, &update, now)
            })
            .await
    }

    async fn delete_thread(&self, id: ThreadId, within: MetadataFilter) -> Result<Option<DeletedThread>> {
        self.writer
            .write(move |connection| if admitted(connection, id, &within)? { delete(connection, id) } else { Ok(None) })
            .await
    }
}

/// Whether a thread may be touched by whoever is held to these; the question of one that is not there is left open.
pub(super) fn admitted(connection: &Connection, id: ThreadId, within: &MetadataFilter) -> Done<bool> {
    if within.is_empty() {
        return Ok(true);
    }
    let mut query = connection.prepare_cached("SELECT id, metadata FROM thread WHERE id = ?1")?;
    let metadata = first(&mut query, &[&key(id)], |row| object("thread", row, "metadata"))?;
    Ok(metadata.is_none_or(|metadata| within.admits(&metadata)))
}

fn find(connection: &Connection, id: ThreadId) -> Done<Option<Thread>> {
    find_as(connection, id, thread)
}

/// What a row of a thread comes to.
type Read<T> = fn(&Connection, &Row<'_>) -> Done<T>;

fn find_as<T>(connection: &Connection, id: ThreadId, read: Read<T>) -> Done<Option<T>> {
    let mut query = connection.prepare_cached(&format!("{THREAD} WHERE id = ?1"))?;
    first(&mut query, &[&key(id)], |row| read(connection, row))
}

/// Reading more bytes than this takes longer than going to where blocking is allowed.
const SMALL: i64 = 64 << 10;

enum Size<T> {
    Small(Option<T>),
    Large,
}

fn small<T>(connection: &Connection, id: ThreadId, read: Read<T>) -> Done<Size<T>> {
    let mut query = connection.prepare_cached(
        "SELECT coalesce(octet_length(state_values), 0) + coalesce(octet_length(state), 0) FROM thread WHERE id = ?1",
    )?;
    match first(&mut query, &[&key(id)], |row| Ok(row.get::<_, i64>(0)?))? {
        Some(bytes) if bytes > SMALL => Ok(Size::Large),
        _ => Ok(Size::Small(find_as(connection, id, read)?)),
    }
}

/// Makes a thread unless there is one.
pub(super) fn insert(connection: &Connection, new: &NewThread, config: &Object) -> Done<Option<i64>> {
    let (ttl, strategy) = ttl(new.ttl)?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO thread (id, metadata, config, rest_status, created_at, updated_at, state_updated_at, ttl,
             ttl_strategy, expires_at)
         VALUES (?1, ?2, ?3, 'idle', ?4, ?4, ?4, ?5, ?6, ?4 + ?5) ON CONFLICT (id) DO NOTHING RETURNING k",
    )?;
    let (metadata, config) = (serde_json::to_string(&new.metadata)?, config_of(connection, new.thread_id, config)?);
    first(&mut insert, params![key(new.thread_id), metadata, config, new.now.0, ttl, strategy], |row| Ok(row.get(0)?))
}

/// A thread's config as its column holds it.
pub(super) fn config_of(connection: &Connection, id: ThreadId, config: &Object) -> Done<String> {
    let place = Place::Thread("config", id.0);
    Ok(connection.cipher().seal_text(place, serde_json::to_string(config)?)?.into_owned())
}

/// A time to live as columns hold it.
fn ttl(ttl: Option<ThreadTtl>) -> Done<(Option<i64>, Option<String>)> {
    let Some(ttl) = ttl else { return Ok((None, None)) };
    Ok((Some(i64::try_from(ttl.ttl.as_micros()).unwrap_or(i64::MAX)), Some(name(&ttl.strategy)?)))
}

/// Copies a thread with its checkpoints, whose metadata then name the copy.
fn copy(connection: &Connection, it: &CopyThread) -> Done<Option<Thread>> {
    let CopyThread { source, target, now, .. } = *it;
    if !admitted(connection, source, &it.within)? {
        return Ok(None);
    }
    let made = connection
        .prepare_cached(
            "INSERT INTO thread (id, metadata, config, rest_status, created_at, updated_at, state_updated_at, copied, ttl,
                 ttl_strategy, expires_at)
             SELECT ?2, metadata, '{}', 'idle', ?3, ?3, ?3, 1, ttl, ttl_strategy, ?3 + ttl FROM thread WHERE id = ?1",
        )?
        .execute(params![key(source), key(target), now.0])?;
    if made == 0 {
        return Ok(None);
    }
    let (from, to) = (source.to_string(), target.to_string());
    lineages::copy(connection, &lineage_key(&from), &lineage_key(&to))?;
    lineages::rename(connection, &to)?;
    merge_metadata(connection, target, it.metadata.clone())?;
    find(connection, target)
}

/// Lays `metadata` over the thread's own.
pub(super) fn merge_metadata(connection: &Connection, id: ThreadId, metadata: Object) -> Done<()> {
    let mut query = connection.prepare_cached("SELECT id, metadata FROM thread WHERE id = ?1")?;
    let Some(mut merged) = first(&mut query, &[&key(id)], |row| object("thread", row, "metadata"))? else {
        return Ok(());
    };
    merged.extend(metadata);
    connection
        .prepare_cached("UPDATE thread SET metadata = ?2 WHERE id = ?1")?
        .execute(params![key(id), serde_json::to_string(&merged)?])?;
    Ok(())
}

/// Writes what a run or a state update leaves on its thread.
pub(super) fn leave(
    connection: &Connection,
    id: ThreadId,
    update: &ThreadUpdate,
    now: Timestamp,
) -> Done<UpdatedThread> {
    let sealed = |column, text: Option<&str>| {
        let seal = |text| connection.cipher().seal_text(Place::Thread(column, id.0), text).map(Cow::into_owned);
        text.map(seal).transpose()
    };
    let changed = connection
        .prepare_cached(
            "UPDATE thread SET rest_status = ?2, state_values = coalesce(?3, state_values), interrupts = ?4, error = ?5,
                 state = ?6, state_revision = ?7, updated_at = ?8, state_updated_at = ?8, expires_at = ?8 + ttl
             WHERE id = ?1",
        )?
        .execute(params![
            key(id),
            update.status.as_str(),
            sealed("state_values", update.values.as_ref().map(text))?,
            sealed("interrupts", Some(text(&update.outcome.interrupts)))?,
            sealed("error", update.outcome.error.as_ref().map(text))?,
            sealed("state", saved_state::kept(update))?,
            update.state.as_ref().map(|saved| saved.revision.as_str()),
            now.0,
        ])?;
    Ok(if changed == 1 { UpdatedThread::Done } else { UpdatedThread::Missing })
}

/// Begins a thread's time to live anew.
pub(super) fn keep(connection: &Connection, id: ThreadId, now: Timestamp) -> Done<()> {
    connection
        .prepare_cached("UPDATE thread SET expires_at = ?2 + ttl WHERE id = ?1 AND ttl IS NOT NULL")?
        .execute(params![key(id), now.0])?;
    Ok(())
}

/// Deletes a thread with its runs and checkpoints; its deliveries stay.
pub(super) fn delete(connection: &Connection, id: ThreadId) -> Done<Option<DeletedThread>> {
    let mut query = connection.prepare_cached("SELECT k FROM thread WHERE id = ?1")?;
    let Some(thread) = first(&mut query, &[&key(id)], |row| Ok(row.get::<_, i64>(0)?))? else {
        return Ok(None);
    };
    let mut query = connection
        .prepare_cached("SELECT id, status FROM run WHERE thread = ?1 AND status IN ('pending', 'running')")?;
    let mut open = DeletedThread::default();
    let status = |row: &Row<'_>| word::<RunStatus>("run", row, "status");
    for (run, status) in all(&mut query, &[&thread], |row| Ok((RunId(uuid(row, "id")?), status(row)?)))? {
        let runs = if status == RunStatus::Running { &mut open.running } else { &mut open.pending };
        runs.push(run);
    }
    connection.prepare_cached("DELETE FROM run WHERE thread = ?1")?.execute([thread])?;
    connection.prepare_cached("DELETE FROM thread WHERE k = ?1")?.execute([thread])?;
    connection.prepare_cached("DELETE FROM cron WHERE thread_id = ?1")?.execute([key(id)])?;
    // What is still to be told is told; what was told holds the values of the thread and goes with it.
    connection
        .prepare_cached("DELETE FROM delivery WHERE thread_id = ?1 AND finished_at IS NOT NULL")?
        .execute([key(id)])?;
    lineages::forget(connection, &lineage_key(&id.to_string()))?;
    Ok(Some(open))
}

fn thread(connection: &Connection, row: &Row<'_>) -> Done<Thread> {
    let id = uuid(row, "id")?;
    let read = |column| opened(connection, row, Place::Thread(column, id));
    let outcome = match read("interrupts")? {
        Some(interrupts) => Some(ThreadOutcome { interrupts, error: read("error")? }),
        None => None,
    };
    Ok(Thread {
        thread_id: ThreadId(id),
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        state_updated_at: time(row, "state_updated_at")?,
        metadata: object("thread", row, "metadata")?,
        status: word("thread", row, "derived_status")?,
        config: opened_as(connection, row, Place::Thread("config", id))?,
        values: match read("state_values")? {
            Some(values) => ThreadValues::Known(values),
            None if row.get("copied")? => ThreadValues::Unknown,
            None => ThreadValues::None,
        },
        outcome,
    })
}

fn head(connection: &Connection, row: &Row<'_>) -> Done<ThreadHead> {
    let (id, revision) = (uuid(row, "id")?, row.get::<_, Option<String>>("state_revision")?);
    let read = |column| {
        let open = |stored| connection.cipher().open_text(Place::Thread(column, id), stored);
        Done::Ok(row.get::<_, Option<String>>(column)?.map(open).transpose()?)
    };
    let (values, state) = (read("state_values")?, read("state")?);
    let state = state.map(|kept| saved_state::whole(&kept, values.as_deref())).transpose()?;
    let state = state.zip(revision);
    Ok(ThreadHead {
        status: word("thread", row, "derived_status")?,
        metadata: object("thread", row, "metadata")?,
        state: state.map(|(state, revision)| SavedState { state, revision }),
    })
}
