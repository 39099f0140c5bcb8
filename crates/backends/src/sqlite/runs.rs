//! Runs in SQLite: making, finding, stopping and deleting them. Taking them from the queue is in `queue.rs`, how they
//! end in `ending.rs`.

use async_trait::async_trait;
use rusqlite::{params, types::ToSql};
use threadyard_core::{
    cancel::{CancelAction, CancelCause, CancelRequest, CancelRun, CancelledRun},
    ids::{RunId, ThreadId},
    limits::{PerOwner, QueueFull},
    metadata_filter::MetadataFilter,
    page::{Page, Window},
    runs::{
        ClaimRuns, ClaimedRun, ClaimedRuns, CreatedRun, Ending, ExpireLeases, ExpiredRuns, GivenBack, Halt, Lease,
        MultitaskStrategy, NewRun, QueueStats, Run, RunQuery, RunStatus, Runs,
    },
    storage::Result,
    threads::NewThread,
    time::Timestamp,
};

use super::{
    Connection, Done, SqliteStorage, ending, limits, lineages, push_configs, queue,
    rows::{all, decoded, first, key, name, run, uuid},
    threads,
};
use crate::cipher::Place;

/// The runs of a thread, newest first.
pub(super) const LISTED: &str = "SELECT * FROM run
    WHERE thread = (SELECT k FROM thread WHERE id = ?1) AND (?2 IS NULL OR status = ?2)
    ORDER BY k DESC LIMIT ?3 OFFSET ?4";

#[async_trait]
impl Runs for SqliteStorage {
    async fn create_run(&self, new: NewRun) -> Result<CreatedRun> {
        self.writer.write(move |connection| create(connection, &new)).await
    }

    async fn queue_stats(&self, now: Timestamp) -> Result<QueueStats> {
        self.readers.read(move |connection| queue::stats(connection, now)).await
    }

    async fn create_runs(&self, new: Vec<NewRun>) -> Result<Result<(), QueueFull>> {
        self.writer
            .write(move |connection| {
                let all: Vec<_> = new.iter().collect();
                if let Some(full) = limits::full(connection, &all)? {
                    return Ok(Err(full));
                }
                for new in &new {
                    put(connection, new)?;
                }
                Ok(Ok(()))
            })
            .await
    }

    async fn run(&self, thread_id: ThreadId, run_id: RunId) -> Result<Option<Run>> {
        self.readers.look_up(move |connection| find(connection, thread_id, run_id)).await
    }

    async fn run_by_id(&self, run_id: RunId) -> Result<Option<Run>> {
        self.readers
            .look_up(move |connection| {
                first(&mut connection.prepare_cached("SELECT * FROM run WHERE id = ?1")?, &[&key(run_id)], |row| {
                    run(connection, row)
                })
            })
            .await
    }

    async fn search_runs(&self, query: RunQuery, window: Window) -> Result<Page<Run>> {
        self.readers
            .read(move |connection| {
                let mut statement = connection.prepare_cached(LISTED)?;
                let status = query.status.map(RunStatus::as_str);
                let limit = i64::from(window.limit) + 1;
                let parameters: [&dyn ToSql; 4] = [&key(query.thread_id), &status, &limit, &window.offset];
                Ok(Page::from_probe(all(&mut statement, &parameters, |row| run(connection, row))?, window))
            })
            .await
    }

    async fn open_runs(&self, status: Option<RunStatus>) -> Result<Vec<(ThreadId, RunId)>> {
        self.readers
            .read(move |connection| {
                let mut query = connection.prepare_cached(
                    "SELECT thread_id, id FROM run
                     WHERE status IN ('pending', 'running') AND (?1 IS NULL OR status = ?1) ORDER BY k",
                )?;
                let status = status.map(RunStatus::as_str);
                all(&mut query, &[&status], |row| Ok((ThreadId(uuid(row, "thread_id")?), RunId(uuid(row, "id")?))))
            })
            .await
    }

    async fn claim_runs(&self, claim: ClaimRuns) -> Result<ClaimedRuns> {
        self.writer.write(move |connection| queue::claim(connection, claim)).await
    }

    async fn claim_runs_within(&self, limits: PerOwner, claim: ClaimRuns) -> Result<ClaimedRuns> {
        self.writer.write(move |connection| queue::claim_within(connection, limits, claim)).await
    }

    async fn extend_leases(&self, leases: Vec<Lease>, until: Timestamp) -> Result<Vec<(RunId, Halt)>> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        self.writer.write(move |connection| queue::extend(connection, &leases, until)).await
    }

    async fn finish_run(&self, lease: Lease, ending: Ending) -> Result<bool> {
        self.writer.write(move |connection| ending::finish(connection, lease, &ending)).await
    }

    async fn requeue_run(&self, lease: Lease, why: GivenBack, now: Timestamp) -> Result<()> {
        self.writer.write(move |connection| queue::requeue(connection, lease, why, now)).await
    }

    async fn expire_leases(&self, expire: ExpireLeases) -> Result<ExpiredRuns> {
        self.writer.write(move |connection| queue::expire(connection, expire)).await
    }

    async fn cancel_run(&self, cancel_run: CancelRun) -> Result<CancelledRun> {
        let CancelRun { thread_id, run_id, within, request, now } = cancel_run;
        self.writer
            .write(move |connection| match find(connection, thread_id, run_id)? {
                _ if !threads::admitted(connection, thread_id, &within)? => Ok(CancelledRun::Missing),
                None => Ok(CancelledRun::Missing),
                Some(found) => cancel(connection, &found, &request, now),
            })
            .await
    }

    async fn cancel_request(&self, run_id: RunId) -> Result<Option<CancelRequest>> {
        self.readers
            .look_up(move |connection| {
                let mut query =
                    connection.prepare_cached("SELECT id, cancel FROM run WHERE id = ?1 AND cancel IS NOT NULL")?;
                first(&mut query, &[&key(run_id)], |row| decoded("run", row, "cancel"))
            })
            .await
    }

    async fn delete_run(
        &self,
        thread_id: ThreadId,
        run_id: RunId,
        within: MetadataFilter,
    ) -> Result<Option<RunStatus>> {
        self.writer
            .write(move |connection| {
                let Some(found) = find(connection, thread_id, run_id)? else { return Ok(None) };
                if !threads::admitted(connection, thread_id, &within)? {
                    return Ok(None);
                }
                if found.kwargs.temporary && !ending::has_other_runs(connection, &found)? {
                    threads::delete(connection, thread_id)?;
                    return Ok(Some(found.status));
                }
                lineages::undo(connection, run_id)?;
                // What was told holds its values; what is still to be told is told.
                connection
                    .prepare_cached("DELETE FROM delivery WHERE run_id = ?1 AND finished_at IS NOT NULL")?
                    .execute([key(run_id)])?;
                connection.prepare_cached("DELETE FROM run WHERE id = ?1")?.execute([key(run_id)])?;
                // The head may be another now; it is computed when somebody asks.
                connection.prepare_cached("UPDATE thread SET state = NULL WHERE id = ?1")?.execute([key(thread_id)])?;
                Ok(Some(found.status))
            })
            .await
    }
}

fn find(connection: &Connection, thread_id: ThreadId, run_id: RunId) -> Done<Option<Run>> {
    let mut query = connection.prepare_cached("SELECT * FROM run WHERE id = ?1 AND thread_id = ?2")?;
    first(&mut query, &[&key(run_id), &key(thread_id)], |row| run(connection, row))
}

pub(super) fn create(connection: &Connection, new: &NewRun) -> Done<CreatedRun> {
    match limits::full(connection, &[new])? {
        Some(full) => Ok(CreatedRun::QueueFull(full)),
        None => put(connection, new),
    }
}

fn put(connection: &Connection, new: &NewRun) -> Done<CreatedRun> {
    let created = make(connection, new)?;
    if let (CreatedRun::Created { .. }, Some(config)) = (&created, &new.push_config) {
        push_configs::keep(connection, config)?;
    }
    Ok(created)
}

fn make(connection: &Connection, new: &NewRun) -> Done<CreatedRun> {
    let thread_id = new.run.thread_id;
    let now = new.run.created_at;
    if let Some(thread) = make_thread(connection, new)? {
        let claimed = insert(connection, thread, new, true)?;
        return Ok(CreatedRun::Created { ended: Vec::new(), stopping: Vec::new(), claimed });
    }
    let mut query = connection.prepare_cached("SELECT k FROM thread WHERE id = ?1")?;
    let Some(thread) = first(&mut query, &[&key(thread_id)], |row| Ok(row.get::<_, i64>(0)?))? else {
        return Ok(CreatedRun::ThreadMissing);
    };
    if !threads::admitted(connection, thread_id, &new.within)? {
        return Ok(CreatedRun::ThreadMissing);
    }
    let Some((ended, stopping)) = make_room(connection, thread, new)? else {
        return Ok(CreatedRun::ThreadBusy);
    };
    let mut open =
        connection.prepare_cached("SELECT 1 FROM run WHERE thread = ?1 AND status IN ('pending', 'running')")?;
    let is_free = new.claim.is_some() && !open.exists([thread])?;
    threads::merge_metadata(connection, thread_id, new.thread_metadata.clone())?;
    connection
        .prepare_cached("UPDATE thread SET config = ?2, updated_at = ?3, expires_at = ?3 + ttl WHERE k = ?1")?
        .execute(params![thread, threads::config_of(connection, thread_id, &new.thread_config)?, now.0])?;
    let claimed = insert(connection, thread, new, is_free)?;
    Ok(CreatedRun::Created { ended, stopping, claimed })
}

/// Makes the run's thread, if that was asked for and there is none.
fn make_thread(connection: &Connection, new: &NewRun) -> Done<Option<i64>> {
    let Some(mut metadata) = new.create_thread.clone() else { return Ok(None) };
    metadata.extend(new.thread_metadata.clone());
    let thread = NewThread { thread_id: new.run.thread_id, metadata, ttl: new.thread_ttl, now: new.run.created_at };
    threads::insert(connection, &thread, &new.thread_config)
}

/// Applies the multitask strategy to the thread's open runs: those that ended and those that are to stop, or `None` when
/// the new run is refused.
fn make_room(connection: &Connection, thread: i64, new: &NewRun) -> Done<Option<(Vec<RunId>, Vec<RunId>)>> {
    let action = match new.run.multitask_strategy {
        MultitaskStrategy::Enqueue => return Ok(Some((Vec::new(), Vec::new()))),
        MultitaskStrategy::Reject => {
            let mut query = connection
                .prepare_cached("SELECT 1 FROM run WHERE thread = ?1 AND status IN ('pending', 'running')")?;
            return Ok((!query.exists([thread])?).then(Default::default));
        }
        MultitaskStrategy::Interrupt => CancelAction::Interrupt,
        MultitaskStrategy::Rollback => CancelAction::Rollback,
    };
    let strategy = name(&new.run.multitask_strategy)?;
    let reason = format!("superseded by run {} (multitask_strategy={strategy})", new.run.run_id);
    let request = CancelRequest { action, reason, cause: CancelCause::Superseded(new.run.run_id) };
    let mut query = connection
        .prepare_cached("SELECT * FROM run WHERE thread = ?1 AND status IN ('pending', 'running') ORDER BY k")?;
    let (mut ended, mut stopping) = (Vec::new(), Vec::new());
    for open in all(&mut query, &[&thread], |row| run(connection, row))? {
        match cancel(connection, &open, &request, new.run.created_at)? {
            CancelledRun::Ended => ended.push(open.run_id),
            _ => stopping.push(open.run_id),
        }
    }
    Ok(Some((ended, stopping)))
}

/// Ends a pending run, or notes on a running one that it is to stop.
fn cancel(connection: &Connection, found: &Run, request: &CancelRequest, now: Timestamp) -> Done<CancelledRun> {
    match found.status {
        RunStatus::Pending => {
            ending::end(connection, found, &request.ending(now))?;
            Ok(CancelledRun::Ended)
        }
        RunStatus::Running => {
            connection
                .prepare_cached("UPDATE run SET cancel = coalesce(cancel, ?2) WHERE id = ?1")?
                .execute(params![key(found.run_id), serde_json::to_string(request)?])?;
            Ok(CancelledRun::Stopping)
        }
        _ => Ok(CancelledRun::Finished),
    }
}

/// Puts the run into the queue of its thread, or where that is free and it was asked for, into execution.
fn insert(connection: &Connection, thread: i64, new: &NewRun, is_free: bool) -> Done<Option<Box<ClaimedRun>>> {
    let run = &new.run;
    let lease = new.claim.filter(|_| is_free && new.due_at <= run.created_at);
    let status = if lease.is_some() { RunStatus::Running } else { RunStatus::Pending };
    let kwargs = serde_json::to_string(&run.kwargs)?;
    let kwargs = connection.cipher().seal_text(Place::Run("kwargs", run.run_id.0), kwargs)?;
    connection
        .prepare_cached(
            "INSERT INTO run (id, thread, thread_id, assistant_id, graph_id, multitask, metadata, kwargs,
                 webhooks_enabled, due_at, created_at, updated_at, events_kept, status, attempt, started_at, lease_id,
                 lease_until, user_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, nullif(?12, 0), ?13, ?14, ?15, ?16, ?17, ?18)",
        )?
        .execute(params![
            key(run.run_id),
            thread,
            key(run.thread_id),
            key(run.assistant_id),
            run.graph_id,
            name(&run.multitask_strategy)?,
            serde_json::to_string(&run.metadata)?,
            kwargs,
            new.webhooks_enabled,
            new.due_at.0,
            run.created_at.0,
            run.kwargs.resumable,
            status.as_str(),
            u32::from(lease.is_some()),
            lease.map(|_| run.created_at.0),
            lease.map(|lease| key(lease.lease_id)),
            lease.map(|lease| lease.until.0),
            new.counted.as_ref().map(|counted| &counted.user),
        ])?;
    let Some(lease) = lease else { return Ok(None) };
    let run = Run { status, attempt: 1, started_at: Some(run.created_at), ..run.clone() };
    queue::claimed(connection, run, lease.lease_id).map(Box::new).map(Some)
}
