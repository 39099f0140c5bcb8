//! Threads in SQLite. Whether a thread is busy is never stored: it follows from its runs.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params, types::ToSql};
use threadyard_core::{
    ids::{RunId, ThreadId},
    json::Object,
    page::{Page, Window},
    storage::Result,
    threads::{
        CreatedThread, NewThread, SavedState, Thread, ThreadHead, ThreadOutcome, ThreadQuery, ThreadSort, ThreadStatus,
        ThreadUpdate, Threads, UpdatedThread,
    },
    time::Timestamp,
};

use super::{
    Done, SqliteStorage,
    assistants::direction,
    checkpoints,
    rows::{all, first, json, key, lineage_key, object, text, time, uuid, word},
};

/// A thread's row with its derived status.
const THREAD: &str = "SELECT *, CASE WHEN EXISTS (
        SELECT 1 FROM run WHERE run.thread = thread.k AND run.status IN ('pending', 'running')
    ) THEN 'busy' ELSE rest_status END AS derived_status FROM thread";

#[async_trait]
impl Threads for SqliteStorage {
    async fn create_thread(&self, new: NewThread) -> Result<CreatedThread> {
        self.writer
            .write(move |connection| {
                let made = insert(connection, new.thread_id, &new.metadata, new.now)?;
                let thread = find(connection, new.thread_id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
                Ok(if made { CreatedThread::New(thread) } else { CreatedThread::Existing(thread) })
            })
            .await
    }

    async fn thread(&self, id: ThreadId) -> Result<Option<Thread>> {
        self.readers.read(move |connection| find(connection, id)).await
    }

    async fn thread_head(&self, id: ThreadId) -> Result<Option<ThreadHead>> {
        self.readers
            .read(move |connection| {
                let mut query = connection.prepare_cached(&format!("{THREAD} WHERE id = ?1"))?;
                first(&mut query, &[&key(id)], head)
            })
            .await
    }

    async fn search_threads(&self, query: ThreadQuery, window: Window) -> Result<Page<Thread>> {
        self.readers
            .read(move |connection| {
                let filter = Filter::of(&query)?;
                let sql = format!(
                    "SELECT * FROM ({THREAD}) WHERE {MATCHES} ORDER BY {} {}, k DESC LIMIT ?5 OFFSET ?6",
                    column(query.sort_by),
                    direction(query.order)
                );
                let limit = i64::from(window.limit) + 1;
                let parameters: [&dyn ToSql; 6] =
                    [&filter.ids, &filter.metadata, &filter.values, &filter.status, &limit, &window.offset];
                let rows = all(&mut connection.prepare_cached(&sql)?, &parameters, thread)?;
                Ok(Page::from_probe(rows, window))
            })
            .await
    }

    async fn count_threads(&self, query: ThreadQuery) -> Result<u64> {
        self.readers
            .read(move |connection| {
                let filter = Filter::of(&query)?;
                let sql = format!("SELECT count(*) FROM ({THREAD}) WHERE {MATCHES}");
                let parameters = params![filter.ids, filter.metadata, filter.values, filter.status];
                let count: i64 = connection.prepare_cached(&sql)?.query_row(parameters, |row| row.get(0))?;
                Ok(count.unsigned_abs())
            })
            .await
    }

    async fn patch_thread(&self, id: ThreadId, metadata: Object, now: Timestamp) -> Result<Option<Thread>> {
        self.writer
            .write(move |connection| {
                merge_metadata(connection, id, metadata)?;
                connection
                    .prepare_cached("UPDATE thread SET updated_at = ?2 WHERE id = ?1")?
                    .execute(params![key(id), now.0])?;
                find(connection, id)
            })
            .await
    }

    async fn update_thread(&self, id: ThreadId, update: ThreadUpdate, now: Timestamp) -> Result<UpdatedThread> {
        self.writer.write(move |connection| leave(connection, id, &update, now)).await
    }

    async fn delete_thread(&self, id: ThreadId) -> Result<Option<Vec<RunId>>> {
        self.writer.write(move |connection| delete(connection, id)).await
    }
}

/// Search parameters as columns compare them.
struct Filter {
    ids: Option<String>,
    metadata: String,
    values: Option<String>,
    status: Option<&'static str>,
}

const MATCHES: &str = "(?1 IS NULL OR hex(id) IN (SELECT value FROM json_each(?1))) AND json_has(metadata, ?2)
    AND (?3 IS NULL OR json_has(state_values, ?3)) AND (?4 IS NULL OR derived_status = ?4)";

impl Filter {
    fn of(query: &ThreadQuery) -> Done<Self> {
        let ids: Vec<_> = query.ids.iter().map(|id| format!("{:X}", id.0.simple())).collect();
        Ok(Self {
            ids: if ids.is_empty() { None } else { Some(serde_json::to_string(&ids)?) },
            metadata: serde_json::to_string(&query.metadata)?,
            values: if query.values.is_empty() { None } else { Some(serde_json::to_string(&query.values)?) },
            status: query.status.map(ThreadStatus::as_str),
        })
    }
}

fn find(connection: &Connection, id: ThreadId) -> Done<Option<Thread>> {
    let mut query = connection.prepare_cached(&format!("{THREAD} WHERE id = ?1"))?;
    first(&mut query, &[&key(id)], thread)
}

/// Makes a thread unless there is one. Says whether it did.
pub(super) fn insert(connection: &Connection, id: ThreadId, metadata: &Object, now: Timestamp) -> Done<bool> {
    let made = connection
        .prepare_cached(
            "INSERT INTO thread (id, metadata, config, rest_status, created_at, updated_at, state_updated_at)
             VALUES (?1, ?2, '{}', 'idle', ?3, ?3, ?3) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![key(id), serde_json::to_string(metadata)?, now.0])?;
    Ok(made == 1)
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
    let changed = connection
        .prepare_cached(
            "UPDATE thread SET rest_status = ?2, state_values = coalesce(?3, state_values), interrupts = ?4, error = ?5,
                 state = ?6, state_revision = ?7, updated_at = ?8, state_updated_at = ?8
             WHERE id = ?1",
        )?
        .execute(params![
            key(id),
            update.status.as_str(),
            update.values.as_ref().map(text),
            text(&update.outcome.interrupts),
            update.outcome.error.as_ref().map(text),
            update.state.as_ref().map(|saved| text(&saved.state)),
            update.state.as_ref().map(|saved| saved.revision.as_str()),
            now.0,
        ])?;
    Ok(if changed == 1 { UpdatedThread::Done } else { UpdatedThread::Missing })
}

/// Deletes a thread with its runs and checkpoints; its deliveries stay.
pub(super) fn delete(connection: &Connection, id: ThreadId) -> Done<Option<Vec<RunId>>> {
    let mut query = connection.prepare_cached("SELECT k FROM thread WHERE id = ?1")?;
    let Some(thread) = first(&mut query, &[&key(id)], |row| Ok(row.get::<_, i64>(0)?))? else {
        return Ok(None);
    };
    let mut query = connection.prepare_cached("SELECT id FROM run WHERE thread = ?1 AND status = 'running'")?;
    let running = all(&mut query, &[&thread], |row| Ok(RunId(uuid(row, "id")?)))?;
    connection.prepare_cached("DELETE FROM run WHERE thread = ?1")?.execute([thread])?;
    connection.prepare_cached("DELETE FROM thread WHERE k = ?1")?.execute([thread])?;
    checkpoints::forget(connection, &lineage_key(&id.to_string()))?;
    Ok(Some(running))
}

fn thread(row: &Row<'_>) -> Done<Thread> {
    let outcome = match json("thread", row, "interrupts")? {
        Some(interrupts) => Some(ThreadOutcome { interrupts, error: json("thread", row, "error")? }),
        None => None,
    };
    Ok(Thread {
        thread_id: ThreadId(uuid(row, "id")?),
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        state_updated_at: time(row, "state_updated_at")?,
        metadata: object("thread", row, "metadata")?,
        status: word("thread", row, "derived_status")?,
        config: object("thread", row, "config")?,
        values: json("thread", row, "state_values")?,
        outcome,
    })
}

fn head(row: &Row<'_>) -> Done<ThreadHead> {
    let revision: Option<String> = row.get("state_revision")?;
    let state = json("thread", row, "state")?.zip(revision);
    Ok(ThreadHead {
        status: word("thread", row, "derived_status")?,
        metadata: object("thread", row, "metadata")?,
        state: state.map(|(state, revision)| SavedState { state, revision }),
    })
}

fn column(sort: ThreadSort) -> &'static str {
    match sort {
        ThreadSort::ThreadId => "id",
        ThreadSort::Status => "derived_status",
        ThreadSort::CreatedAt => "created_at",
        ThreadSort::UpdatedAt => "updated_at",
        ThreadSort::StateUpdatedAt => "state_updated_at",
    }
}
