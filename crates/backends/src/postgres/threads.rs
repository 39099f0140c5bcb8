//! Threads in PostgreSQL. Whether a thread is busy is never stored: it follows from its runs.

use std::borrow::Cow;

use async_trait::async_trait;
use futures_util::try_join;
use threadyard_core::{
    ids::{RunId, ThreadId},
    json::Object,
    metadata_filter::MetadataFilter,
    page::{Page, Window},
    retention::ThreadTtl,
    runs::RunStatus,
    storage::{Result, StorageError},
    threads::{
        CopyThread, CreatedThread, DeletedThread, NewThread, SavedState, Thread, ThreadHead, ThreadOutcome,
        ThreadPatch, ThreadQuery, ThreadStatus, ThreadStorage, ThreadUpdate, ThreadValues, Threads, UpdatedThread,
    },
    time::Timestamp,
};
use tokio_postgres::Row;

use super::{
    Client, PostgresStorage,
    failures::Done,
    lane_key, lineages,
    rows::{Parameter, all, execute, first, get, name, object, opened, opened_as, time, uuid, word},
    thread_search::{self, tags},
};
use crate::{
    cipher::{Cipher, Place},
    saved_state,
};

/// What of a thread is shown, with its derived status.
const THREAD: &str = "SELECT k, id, created_at, updated_at, state_updated_at, metadata, config, state_values, copied,
        interrupts, error, CASE WHEN EXISTS (
            SELECT 1 FROM run WHERE run.thread = thread.k AND run.status IN ('pending', 'running')
        ) THEN 'busy' ELSE rest_status END AS derived_status FROM thread";

#[async_trait]
impl Threads for PostgresStorage {
    async fn create_thread(&self, new: NewThread) -> Result<CreatedThread> {
        let key = lane_key(&new.thread_id.to_string());
        self.lanes
            .write(key, new, |client, new| {
                Box::pin(async move {
                    if insert(client, new).await? {
                        return Ok(CreatedThread::New(empty(new)));
                    }
                    let existing = find(client, new.thread_id).await?;
                    Ok(CreatedThread::Existing(existing.ok_or(gone(new.thread_id))?))
                })
            })
            .await
    }

    async fn thread(&self, id: ThreadId) -> Result<Option<Thread>> {
        Ok(find(&self.client().await?, id).await?)
    }

    async fn thread_head(&self, id: ThreadId) -> Result<Option<ThreadHead>> {
        let sql = "SELECT id, metadata, state, state_revision, CASE WHEN state LIKE ',%' OR state LIKE '~%' THEN state_values END AS state_values,
                 CASE WHEN EXISTS (
                     SELECT 1 FROM run WHERE run.thread = thread.k AND run.status IN ('pending', 'running')
                 ) THEN 'busy' ELSE rest_status END AS derived_status FROM thread WHERE id = $1";
        let client = self.client().await?;
        Ok(first(&client, sql, &[&id.0]).await?.map(|row| head(client.cipher(), &row)).transpose()?)
    }

    async fn search_threads(&self, query: ThreadQuery, window: Window) -> Result<Page<Thread>> {
        let mut client = self.client().await?;
        let keys = thread_search::keys(&mut client, &query, window).await?;
        let sql = format!("{THREAD} WHERE k = ANY($1) ORDER BY array_position($1, k)");
        let found = all(&client, &sql, &[&keys]).await?;
        Ok(Page::from_probe(found.iter().map(|row| thread(client.cipher(), row)).collect::<Done<_>>()?, window))
    }

    async fn count_threads(&self, query: ThreadQuery) -> Result<u64> {
        Ok(thread_search::count(&mut self.client().await?, &query).await?)
    }

    async fn patch_thread(&self, id: ThreadId, patch: ThreadPatch, now: Timestamp) -> Result<Option<Thread>> {
        self.lanes
            .write(lane_key(&id.to_string()), (id, patch, now), |client, (id, patch, now)| {
                Box::pin(patched(client, *id, patch, *now))
            })
            .await
    }

    async fn copy_thread(&self, it: CopyThread) -> Result<Option<Thread>> {
        self.transact(it, |client, it| Box::pin(copy(client, it))).await
    }

    async fn thread_storage(&self, id: ThreadId) -> Result<Option<ThreadStorage>> {
        let client = self.client().await?;
        match find(&client, id).await? {
            None => Ok(None),
            Some(_) => Ok(Some(lineages::usage(&client, id).await?)),
        }
    }

    async fn update_thread(
        &self,
        id: ThreadId,
        within: MetadataFilter,
        update: ThreadUpdate,
        now: Timestamp,
    ) -> Result<UpdatedThread> {
        if !within.is_empty() {
            return self
                .transact((id, within, update, now), |client, (id, within, update, now)| {
                    Box::pin(async move {
                        if !admitted(client, *id, within).await? {
                            return Ok(UpdatedThread::Missing);
                        }
                        leave(client, *id, update, *now).await
                    })
                })
                .await;
        }
        self.lanes
            .write_at_once(lane_key(&id.to_string()), (id, update, now), |client, (id, update, now)| {
                Box::pin(leave(client, *id, update, *now))
            })
            .await
    }

    async fn delete_thread(&self, id: ThreadId, within: MetadataFilter) -> Result<Option<DeletedThread>> {
        self.lanes
            .write(lane_key(&id.to_string()), (id, within), |client, (id, within)| {
                Box::pin(async move {
                    if admitted(client, *id, within).await? { delete(client, *id).await } else { Ok(None) }
                })
            })
            .await
    }
}

async fn find(client: &Client, id: ThreadId) -> Done<Option<Thread>> {
    let found = first(client, &format!("{THREAD} WHERE id = $1"), &[&id.0]).await?;
    found.map(|row| thread(client.cipher(), &row)).transpose()
}

fn gone(id: ThreadId) -> StorageError {
    StorageError::Unavailable(format!("thread {id} was deleted at the same time"))
}

/// A thread as it is made.
fn empty(new: &NewThread) -> Thread {
    Thread {
        thread_id: new.thread_id,
        created_at: new.now,
        updated_at: new.now,
        state_updated_at: new.now,
        metadata: new.metadata.clone(),
        status: ThreadStatus::Idle,
        config: Object::new(),
        values: ThreadValues::None,
        outcome: None,
    }
}

/// Makes a thread unless there is one. Says whether it did.
pub(super) async fn insert(client: &Client, new: &NewThread) -> Done<bool> {
    let (ttl, strategy) = ttl(new.ttl)?;
    let made = execute(
        client,
        "INSERT INTO thread (id, metadata, tags, config, rest_status, created_at, updated_at, state_updated_at, ttl,
             ttl_strategy, expires_at)
         VALUES ($1, $2, $3, '{}', 'idle', $4, $4, $4, $5, $6, $4::bigint + $5::bigint) ON CONFLICT (id) DO NOTHING",
        &[&new.thread_id.0, &serde_json::to_string(&new.metadata)?, &tags(&new.metadata), &new.now.0, &ttl, &strategy],
    )
    .await?;
    Ok(made == 1)
}

/// A time to live as columns hold it.
pub(super) fn ttl(ttl: Option<ThreadTtl>) -> Done<(Option<i64>, Option<String>)> {
    let Some(ttl) = ttl else { return Ok((None, None)) };
    Ok((Some(i64::try_from(ttl.ttl.as_micros()).unwrap_or(i64::MAX)), Some(name(&ttl.strategy)?)))
}

async fn patched(client: &Client, id: ThreadId, patch: &ThreadPatch, now: Timestamp) -> Done<Option<Thread>> {
    let locked = lock(client, id).await?.filter(|locked| patch.within.admits(&locked.metadata));
    let Some(locked) = locked else { return Ok(None) };
    let merged = locked.merged(&patch.metadata);
    let (ttl, strategy) = ttl(patch.ttl)?;
    execute(
        client,
        "UPDATE thread SET metadata = coalesce($2, metadata), tags = coalesce($3, tags), updated_at = $4,
             ttl = coalesce($5, ttl), ttl_strategy = coalesce($6, ttl_strategy), expires_at = $4 + coalesce($5, ttl)
         WHERE k = $1",
        &[
            &locked.k,
            &merged.as_ref().map(serde_json::to_string).transpose()?,
            &merged.as_ref().map(tags),
            &now.0,
            &ttl,
            &strategy,
        ],
    )
    .await?;
    find(client, id).await
}

/// A thread that nobody else can change until the end of the transaction.
pub(super) struct Locked {
    pub(super) k: i64,
    pub(super) metadata: Object,
}

pub(super) async fn lock(client: &Client, id: ThreadId) -> Done<Option<Locked>> {
    let sql = "SELECT k, id, metadata FROM thread WHERE id = $1 FOR NO KEY UPDATE";
    let Some(row) = first(client, sql, &[&id.0]).await? else { return Ok(None) };
    Ok(Some(Locked { k: get(&row, "k")?, metadata: object("thread", &row, "metadata")? }))
}

/// Whether a thread may be touched by whoever is held to these, until the end of the transaction; the question of one that
/// is not there is left open.
pub(super) async fn admitted(client: &Client, id: ThreadId, within: &MetadataFilter) -> Done<bool> {
    if within.is_empty() {
        return Ok(true);
    }
    Ok(lock(client, id).await?.is_none_or(|locked| within.admits(&locked.metadata)))
}

impl Locked {
    /// The thread's metadata with these laid over, unless that changes nothing.
    pub(super) fn merged(&self, metadata: &Object) -> Option<Object> {
        let mut merged = self.metadata.clone();
        merged.extend(metadata.clone());
        (merged != self.metadata).then_some(merged)
    }
}

/// Copies a thread with its checkpoints, whose metadata then name the copy.
async fn copy(client: &Client, it: &CopyThread) -> Done<Option<Thread>> {
    let CopyThread { source, target, now, .. } = *it;
    if !admitted(client, source, &it.within).await? {
        return Ok(None);
    }
    let made = execute(
        client,
        "INSERT INTO thread (id, metadata, tags, config, rest_status, created_at, updated_at, state_updated_at, copied,
             ttl, ttl_strategy, expires_at)
         SELECT $2, metadata, tags, '{}', 'idle', $3, $3, $3, true, ttl, ttl_strategy, $3 + ttl FROM thread WHERE id = $1",
        &[&source.0, &target.0, &now.0],
    )
    .await?;
    if made == 0 {
        return Ok(None);
    }
    let (from, to) = (source.to_string(), target.to_string());
    lineages::copy(client, &from, &to, Some(&to)).await?;
    if !it.metadata.is_empty() {
        let overlay = ThreadPatch { metadata: it.metadata.clone(), ..ThreadPatch::default() };
        return patched(client, target, &overlay, now).await;
    }
    find(client, target).await
}

/// Writes what a run or a state update leaves on its thread.
pub(super) async fn leave(client: &Client, id: ThreadId, update: &ThreadUpdate, now: Timestamp) -> Done<UpdatedThread> {
    let sealed = Left::of(client.cipher(), id, update)?;
    let changed = execute(
        client,
        "UPDATE thread SET rest_status = $2, state_values = coalesce($3, state_values), interrupts = $4, error = $5,
             state = $6, state_revision = $7, updated_at = $8, state_updated_at = $8, expires_at = $8 + ttl
         WHERE id = $1",
        &[
            &id.0,
            &update.status.as_str(),
            &sealed.values,
            &sealed.interrupts,
            &sealed.error,
            &sealed.state,
            &revision(update),
            &now.0,
        ],
    )
    .await?;
    Ok(if changed == 1 { UpdatedThread::Done } else { UpdatedThread::Missing })
}

/// What is left on a thread, as its columns hold it.
pub(super) struct Left<'a> {
    pub(super) values: Option<Cow<'a, str>>,
    pub(super) interrupts: Cow<'a, str>,
    pub(super) error: Option<Cow<'a, str>>,
    pub(super) state: Option<Cow<'a, str>>,
}

impl<'a> Left<'a> {
    pub(super) fn of(cipher: &Cipher, id: ThreadId, update: &'a ThreadUpdate) -> Result<Self> {
        let seal = |column, text: &'a str| cipher.seal_text(Place::Thread(column, id.0), text);
        let some = |column, text: Option<&'a str>| text.map(|text| seal(column, text)).transpose();
        Ok(Self {
            values: some("state_values", update.values.as_ref().map(|it| it.get()))?,
            interrupts: seal("interrupts", update.outcome.interrupts.get())?,
            error: some("error", update.outcome.error.as_ref().map(|it| it.get()))?,
            state: some("state", saved_state::kept(update))?,
        })
    }
}

/// A thread's config as its column holds it.
pub(super) fn config_of(cipher: &Cipher, id: ThreadId, config: &Object) -> Done<String> {
    Ok(cipher.seal_text(Place::Thread("config", id.0), serde_json::to_string(config)?)?.into_owned())
}

pub(super) fn revision(update: &ThreadUpdate) -> Option<&str> {
    update.state.as_ref().map(|saved| saved.revision.as_str())
}

/// Begins a thread's time to live anew.
pub(super) async fn keep(client: &Client, id: ThreadId, now: Timestamp) -> Done<()> {
    let sql = "UPDATE thread SET expires_at = $2 + ttl WHERE id = $1 AND ttl IS NOT NULL";
    execute(client, sql, &[&id.0, &now.0]).await?;
    Ok(())
}

/// Deletes a thread with its runs and checkpoints; its deliveries stay.
pub(super) async fn delete(client: &Client, id: ThreadId) -> Done<Option<DeletedThread>> {
    let sql = "SELECT k FROM thread WHERE id = $1 FOR UPDATE";
    let Some(found) = first(client, sql, &[&id.0]).await? else { return Ok(None) };
    let k = get(&found, "k")?;
    // Whoever holds a lease may be writing: what comes of that is to go as well, so it is waited for.
    all(client, "SELECT 1 FROM run WHERE thread = $1 AND status = 'running' FOR UPDATE", &[&k]).await?;
    delete_locked(client, k, id).await.map(Some)
}

/// Deletes a thread that is locked, as are its runs.
pub(super) async fn delete_locked(client: &Client, k: i64, id: ThreadId) -> Done<DeletedThread> {
    // What is still to be told is told; what was told holds the values of the thread and goes with it.
    let sql = "WITH gone AS (DELETE FROM thread WHERE k = $1),
             crons AS (DELETE FROM cron WHERE thread_id = $2),
             told AS (DELETE FROM delivery WHERE thread_id = $2 AND finished_at IS NOT NULL)
         DELETE FROM run WHERE thread = $1 RETURNING id, status";
    let parameters: [Parameter<'_>; 2] = [&k, &id.0];
    let name = id.to_string();
    let (runs, ()) = try_join!(all(client, sql, &parameters), lineages::forget(client, &name))?;
    let mut open = DeletedThread::default();
    for run in &runs {
        let run_id = RunId(uuid(run, "id")?);
        match word("run", run, "status")? {
            RunStatus::Pending => open.pending.push(run_id),
            RunStatus::Running => open.running.push(run_id),
            _ => {}
        }
    }
    Ok(open)
}

fn thread(cipher: &Cipher, row: &Row) -> Done<Thread> {
    let id = uuid(row, "id")?;
    let read = |column| opened(cipher, row, Place::Thread(column, id));
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
        config: opened_as(cipher, row, Place::Thread("config", id))?,
        values: match read("state_values")? {
            Some(values) => ThreadValues::Known(values),
            None if get(row, "copied")? => ThreadValues::Unknown,
            None => ThreadValues::None,
        },
        outcome,
    })
}

fn head(cipher: &Cipher, row: &Row) -> Done<ThreadHead> {
    let id = uuid(row, "id")?;
    let read = |column| {
        let open = |stored| cipher.open_text(Place::Thread(column, id), stored);
        Done::Ok(get::<Option<String>>(row, column)?.map(open).transpose()?)
    };
    let (values, state) = (read("state_values")?, read("state")?);
    let state = state.map(|kept| saved_state::whole(&kept, values.as_deref())).transpose()?;
    let state = state.zip(get(row, "state_revision")?);
    Ok(ThreadHead {
        status: word("thread", row, "derived_status")?,
        metadata: object("thread", row, "metadata")?,
        state: state.map(|(state, revision)| SavedState { state, revision }),
    })
}
