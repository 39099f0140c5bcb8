//! Runs in PostgreSQL: making, finding, stopping and deleting them. Taking them from the queue is in `queue.rs`, how they
//! end in `ending.rs`.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::try_join;
use threadyard_core::{
    cancel::{CancelAction, CancelCause, CancelRequest, CancelRun, CancelledRun},
    checkpoints::CheckpointTuple,
    ids::{LeaseId, RunId, ThreadId},
    json::Object,
    limits::{PerOwner, QueueFull},
    metadata_filter::MetadataFilter,
    page::{Page, Window},
    runs::{
        ClaimRuns, ClaimedRun, ClaimedRuns, CreatedRun, Ending, ExpireLeases, ExpiredRuns, GivenBack, Halt, Lease,
        MultitaskStrategy, NewLease, NewRun, QueueStats, Run, RunQuery, RunStatus, Runs,
    },
    sealing::SealingContext,
    storage::Result,
    time::Timestamp,
};
use tokio_postgres::Row;

use super::{
    Client, PostgresStorage, checkpoints,
    ending::{self, Ended},
    failures::Done,
    lane_key, limits, lineages, push_configs, queue,
    rows::{Parameter, Text, all, both, decoded, escaped, execute, first, get, name, run, uuid},
    thread_search::tags,
    threads::{self, Locked},
};
use crate::cipher::Place;

#[async_trait]
impl Runs for PostgresStorage {
    async fn create_run(&self, new: NewRun) -> Result<CreatedRun> {
        let key = lane_key(&new.run.thread_id.to_string());
        let is_counted = new.counted.as_ref().is_some_and(|counted| counted.pending.limits());
        let created = if is_counted {
            // In a group, others would be counted before this one is there.
            self.transact(new, |client, new| Box::pin(create(client, new))).await?
        } else {
            self.lanes.write(key, new, |client, new| Box::pin(create(client, new))).await?
        };
        if let CreatedRun::Created { claimed: Some(claimed), .. } = &created {
            self.note_home(&claimed.run);
        }
        Ok(created)
    }

    async fn queue_stats(&self, now: Timestamp) -> Result<QueueStats> {
        Ok(queue::stats(&self.client().await?, now).await?)
    }

    async fn create_runs(&self, new: Vec<NewRun>) -> Result<Result<(), QueueFull>> {
        self.transact(new, |client, new| {
            Box::pin(async move {
                let all: Vec<_> = new.iter().collect();
                if let Some(full) = limits::full(client, &all).await? {
                    return Ok(Err(full));
                }
                for new in new {
                    put(client, new).await?;
                }
                Ok(Ok(()))
            })
        })
        .await
    }

    async fn run(&self, thread_id: ThreadId, run_id: RunId) -> Result<Option<Run>> {
        let sql = "SELECT * FROM run WHERE id = $1 AND thread_id = $2";
        self.one_run(sql, &[&run_id.0, &thread_id.0]).await
    }

    async fn run_by_id(&self, run_id: RunId) -> Result<Option<Run>> {
        self.one_run("SELECT * FROM run WHERE id = $1", &[&run_id.0]).await
    }

    async fn search_runs(&self, query: RunQuery, window: Window) -> Result<Page<Run>> {
        let sql = "SELECT * FROM run WHERE thread = (SELECT k FROM thread WHERE id = $1) AND ($2::text IS NULL OR status = $2)
             ORDER BY k DESC LIMIT $3 OFFSET $4";
        let (limit, offset) = (i64::from(window.limit) + 1, i64::from(window.offset));
        let status = query.status.map(RunStatus::as_str);
        let parameters: [Parameter<'_>; 4] = [&query.thread_id.0, &status, &limit, &offset];
        let client = self.client().await?;
        let rows = all(&client, sql, &parameters).await?;
        let runs = rows.iter().map(|row| run(client.cipher(), row)).collect::<Done<_>>()?;
        Ok(Page::from_probe(runs, window))
    }

    async fn open_runs(&self, status: Option<RunStatus>) -> Result<Vec<(ThreadId, RunId)>> {
        let sql = "SELECT thread_id, id FROM run
             WHERE status IN ('pending', 'running') AND ($1::text IS NULL OR status = $1) ORDER BY k";
        let rows = all(&self.client().await?, sql, &[&status.map(RunStatus::as_str)]).await?;
        let ids = |row: &Row| Ok((ThreadId(uuid(row, "thread_id")?), RunId(uuid(row, "id")?)));
        Ok(rows.iter().map(ids).collect::<Done<_>>()?)
    }

    async fn claim_runs(&self, claim: ClaimRuns) -> Result<ClaimedRuns> {
        let claimed = self.transact(claim, |client, claim| Box::pin(queue::claim(client, claim))).await?;
        claimed.runs.iter().for_each(|claimed| self.note_home(&claimed.run));
        Ok(claimed)
    }

    async fn claim_runs_within(&self, limits: PerOwner, claim: ClaimRuns) -> Result<ClaimedRuns> {
        let work = (limits, claim);
        let claimed = self
            .transact(work, |client, (limits, claim)| Box::pin(queue::claim_within(client, *limits, claim)))
            .await?;
        claimed.runs.iter().for_each(|claimed| self.note_home(&claimed.run));
        Ok(claimed)
    }

    async fn extend_leases(&self, leases: Vec<Lease>, until: Timestamp) -> Result<Vec<(RunId, Halt)>> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        self.at_once((leases, until), |client, (leases, until)| Box::pin(queue::extend(client, leases, *until))).await
    }

    async fn finish_run(&self, lease: Lease, ending: Ending) -> Result<bool> {
        let home = self.home(lease);
        let input = Arc::new((lease, ending));
        if let Some(thread_id) = home.thread.filter(|_| home.plain && ending::may_be_plain(&input.1)) {
            let work = (Ended { lease, thread_id }, input.clone());
            let plainly = self.lanes.write_at_once(home.key, work, |client, (ended, input)| {
                Box::pin(ending::finish_plainly(client, ended, &input.1))
            });
            if let Some(others_wait) = plainly.await? {
                return Ok(others_wait);
            }
        }
        self.lanes.write(home.key, input, |client, input| Box::pin(ending::finish(client, input.0, &input.1))).await
    }

    async fn requeue_run(&self, lease: Lease, why: GivenBack, now: Timestamp) -> Result<()> {
        self.lanes
            .write_at_once(self.home(lease).key, (lease, why, now), |client, (lease, why, now)| {
                Box::pin(queue::requeue(client, *lease, *why, *now))
            })
            .await
    }

    async fn expire_leases(&self, expire: ExpireLeases) -> Result<ExpiredRuns> {
        self.transact(expire, |client, expire| Box::pin(queue::expire(client, *expire))).await
    }

    async fn cancel_run(&self, cancel_run: CancelRun) -> Result<CancelledRun> {
        let CancelRun { thread_id, run_id, within, request, now } = cancel_run;
        let key = lane_key(&thread_id.to_string());
        self.lanes
            .write(
                key,
                (thread_id, run_id, within, request, now),
                |client, (thread_id, run_id, within, request, now)| {
                    Box::pin(async move {
                        if !threads::admitted(client, *thread_id, within).await? {
                            return Ok(CancelledRun::Missing);
                        }
                        match lock(client, *thread_id, *run_id).await? {
                            None => Ok(CancelledRun::Missing),
                            Some(found) => ending::cancel(client, &found, request, *now).await,
                        }
                    })
                },
            )
            .await
    }

    async fn cancel_request(&self, run_id: RunId) -> Result<Option<CancelRequest>> {
        let sql = "SELECT id, cancel FROM run WHERE id = $1 AND cancel IS NOT NULL";
        let found = first(&self.client().await?, sql, &[&run_id.0]).await?;
        Ok(found.map(|row| decoded("run", &row, "cancel")).transpose()?)
    }

    async fn delete_run(
        &self,
        thread_id: ThreadId,
        run_id: RunId,
        within: MetadataFilter,
    ) -> Result<Option<RunStatus>> {
        let key = lane_key(&thread_id.to_string());
        self.lanes
            .write(key, (thread_id, run_id, within), |client, (thread_id, run_id, within)| {
                Box::pin(async move {
                    if !threads::admitted(client, *thread_id, within).await? {
                        return Ok(None);
                    }
                    delete(client, *thread_id, *run_id).await
                })
            })
            .await
    }
}

impl PostgresStorage {
    async fn one_run(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Option<Run>> {
        let client = self.client().await?;
        Ok(first(&client, sql, parameters).await?.map(|row| run(client.cipher(), &row)).transpose()?)
    }
}

/// A run that nobody else can change until the end of the transaction, as nobody can its thread.
async fn lock(client: &Client, thread_id: ThreadId, run_id: RunId) -> Done<Option<Run>> {
    let thread = "SELECT k FROM thread WHERE id = $1 FOR NO KEY UPDATE";
    let found = "SELECT * FROM run WHERE id = $1 AND thread_id = $2 FOR UPDATE";
    let (_, found) = both(client, (thread, &[&thread_id.0]), (found, &[&run_id.0, &thread_id.0])).await?;
    found.first().map(|row| run(client.cipher(), row)).transpose()
}

async fn delete(client: &Client, thread_id: ThreadId, run_id: RunId) -> Done<Option<RunStatus>> {
    let Some(found) = lock(client, thread_id, run_id).await? else { return Ok(None) };
    if found.kwargs.temporary && !ending::has_other_runs(client, &found).await? {
        threads::delete(client, thread_id).await?;
        return Ok(Some(found.status));
    }
    lineages::undo(client, run_id).await?;
    // What was told holds its values; what is still to be told is told. The head of the thread may be another now; it is
    // computed when somebody asks.
    let sql = "WITH told AS (DELETE FROM delivery WHERE run_id = $1 AND finished_at IS NOT NULL),
             head AS (UPDATE thread SET state = NULL WHERE id = $2)
         DELETE FROM run WHERE id = $1";
    execute(client, sql, &[&run_id.0, &thread_id.0]).await?;
    Ok(Some(found.status))
}

pub(super) async fn create(client: &Client, new: &NewRun) -> Done<CreatedRun> {
    match limits::full(client, &[new]).await? {
        Some(full) => Ok(CreatedRun::QueueFull(full)),
        None => put(client, new).await,
    }
}

async fn put(client: &Client, new: &NewRun) -> Done<CreatedRun> {
    let created = make(client, new).await?;
    if let (CreatedRun::Created { .. }, Some(config)) = (&created, &new.push_config) {
        push_configs::keep(client, config).await?;
    }
    Ok(created)
}

async fn make(client: &Client, new: &NewRun) -> Done<CreatedRun> {
    if let Some(metadata) = &new.create_thread
        && let Some(claimed) = insert_with_thread(client, new, metadata).await?
    {
        return Ok(CreatedRun::Created { ended: Vec::new(), stopping: Vec::new(), claimed });
    }
    let thread = threads::lock(client, new.run.thread_id).await?;
    let Some(thread) = thread.filter(|thread| new.within.admits(&thread.metadata)) else {
        return Ok(CreatedRun::ThreadMissing);
    };
    let Some((ended, stopping)) = make_room(client, thread.k, new).await? else {
        return Ok(CreatedRun::ThreadBusy);
    };
    let claim = insert(client, &thread, new).await?;
    let claimed = claim.map(|claim| {
        let metadata = thread.merged(&new.thread_metadata).unwrap_or(thread.metadata);
        claim.of(new, metadata)
    });
    Ok(CreatedRun::Created { ended, stopping, claimed })
}

/// Applies the multitask strategy to the thread's open runs: those that ended and those that are to stop, or `None` when
/// the new run is refused.
async fn make_room(client: &Client, thread: i64, new: &NewRun) -> Done<Option<(Vec<RunId>, Vec<RunId>)>> {
    let action = match new.run.multitask_strategy {
        MultitaskStrategy::Enqueue => return Ok(Some((Vec::new(), Vec::new()))),
        MultitaskStrategy::Reject => {
            let sql = "SELECT 1 FROM run WHERE thread = $1 AND status IN ('pending', 'running') LIMIT 1";
            return Ok(first(client, sql, &[&thread]).await?.is_none().then(Default::default));
        }
        MultitaskStrategy::Interrupt => CancelAction::Interrupt,
        MultitaskStrategy::Rollback => CancelAction::Rollback,
    };
    let strategy = name(&new.run.multitask_strategy)?;
    let reason = format!("superseded by run {} (multitask_strategy={strategy})", new.run.run_id);
    let request = CancelRequest { action, reason, cause: CancelCause::Superseded(new.run.run_id) };
    let sql = "SELECT * FROM run WHERE thread = $1 AND status IN ('pending', 'running') ORDER BY k FOR UPDATE";
    let (mut ended, mut stopping) = (Vec::new(), Vec::new());
    for row in all(client, sql, &[&thread]).await? {
        let open = run(client.cipher(), &row)?;
        match ending::cancel(client, &open, &request, new.run.created_at).await? {
            CancelledRun::Ended => ended.push(open.run_id),
            _ => stopping.push(open.run_id),
        }
    }
    Ok(Some((ended, stopping)))
}

/// A claim that came with the making of its run.
struct Claim {
    lease_id: LeaseId,
    head: Option<CheckpointTuple>,
}

impl Claim {
    fn of(self, new: &NewRun, thread_metadata: Object) -> Box<ClaimedRun> {
        let Self { lease_id, head } = self;
        let started_at = Some(new.run.created_at);
        let run = Run { status: RunStatus::Running, attempt: 1, started_at, ..new.run.clone() };
        let lease = Lease { run_id: run.run_id, lease_id };
        Box::new(ClaimedRun {
            run,
            lease,
            thread_metadata,
            head,
            resume: false,
            said: 0,
            sealing: SealingContext::default(),
        })
    }
}

/// What both ways of inserting a run end with. The run begins at once where it has a lease and its place is free.
const RUN: &str =
    "INSERT INTO run (id, thread, thread_id, assistant_id, graph_id, multitask, metadata, kwargs, plain,
        webhooks_enabled, due_at, created_at, updated_at, events_kept, status, attempt, started_at, lease_id, lease_until,
        user_id)
    SELECT $1, k, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12,
        CASE WHEN begins THEN 'running' ELSE 'pending' END, CASE WHEN begins THEN 1 ELSE 0 END,
        CASE WHEN begins THEN $11::bigint END, CASE WHEN begins THEN $13::uuid END,
        CASE WHEN begins THEN $14::bigint END, $15
    FROM (SELECT k, is_free AND $13::uuid IS NOT NULL AS begins FROM place) AS here
    RETURNING status = 'running' AS is_claimed";

/// Makes a run on a thread that is locked, and notes on the thread what comes with it.
async fn insert(client: &Client, thread: &Locked, new: &NewRun) -> Done<Option<Claim>> {
    let merged = thread.merged(&new.thread_metadata);
    let sql = format!(
        "WITH place AS (
             UPDATE thread SET metadata = coalesce($17, metadata), tags = coalesce($18, tags), config = $19,
                 updated_at = $11, expires_at = $11 + ttl
             WHERE k = $16 RETURNING k, NOT EXISTS (
                 SELECT 1 FROM run WHERE thread = $16 AND status IN ('pending', 'running')) AS is_free)
         {RUN}"
    );
    let metadata = merged.as_ref().map(serde_json::to_string).transpose()?;
    let (tags, config) =
        (merged.as_ref().map(tags), threads::config_of(client.cipher(), new.run.thread_id, &new.thread_config)?);
    Ok(insert_as(client, &sql, new, &[&thread.k, &metadata, &tags, &config]).await?.flatten())
}

/// Makes a run together with its thread, unless there is one with this id. Says whether it did, and whether it claimed it.
async fn insert_with_thread(client: &Client, new: &NewRun, metadata: &Object) -> Done<Option<Option<Box<ClaimedRun>>>> {
    let (ttl, strategy) = threads::ttl(new.thread_ttl)?;
    let mut metadata = metadata.clone();
    metadata.extend(new.thread_metadata.clone());
    let sql = format!(
        "WITH place AS (
             INSERT INTO thread (id, metadata, tags, config, rest_status, created_at, updated_at, state_updated_at, ttl,
                 ttl_strategy, expires_at)
             VALUES ($2, $16, $17, $18, 'idle', $11, $11, $11, $19, $20, $11::bigint + $19::bigint)
             ON CONFLICT (id) DO NOTHING RETURNING k, true AS is_free)
         {RUN}"
    );
    let text = serde_json::to_string(&metadata)?;
    let config = threads::config_of(client.cipher(), new.run.thread_id, &new.thread_config)?;
    let made = insert_as(client, &sql, new, &[&text, &tags(&metadata), &config, &ttl, &strategy]).await?;
    Ok(made.map(|claim| claim.map(|claim| claim.of(new, metadata))))
}

/// Inserts a run, unless the statement finds no place for it. Says whether it did, and whether it claimed it.
async fn insert_as(client: &Client, sql: &str, new: &NewRun, more: &[Parameter<'_>]) -> Done<Option<Option<Claim>>> {
    let run = &new.run;
    let lease = new.claim.filter(|_| new.due_at <= run.created_at);
    let kwargs = client.cipher().seal_text(Place::Run("kwargs", run.run_id.0), serde_json::to_string(&run.kwargs)?)?;
    let user = new.counted.as_ref().map(|counted| escaped(&counted.user));
    let parameters: [Parameter<'_>; 15] = [
        &run.run_id.0,
        &run.thread_id.0,
        &run.assistant_id.0,
        &Text(&run.graph_id),
        &name(&run.multitask_strategy)?,
        &serde_json::to_string(&run.metadata)?,
        &kwargs,
        &ending::is_plain(&run.kwargs, &run.metadata),
        &new.webhooks_enabled,
        &new.due_at.0,
        &run.created_at.0,
        &run.kwargs.resumable,
        &lease.map(|lease| lease.lease_id.0),
        &lease.map(|lease| lease.until.0),
        &user,
    ];
    let parameters = [&parameters[..], more].concat();
    let Some(NewLease { lease_id, .. }) = lease else {
        return Ok(first(client, sql, &parameters).await?.map(|_| None));
    };
    let thread = run.thread_id.to_string();
    let head = checkpoints::find(client, &thread, "", None);
    let (made, head) = try_join!(first(client, sql, &parameters), head)?;
    let claimed = |row: &Row| Ok(get::<bool>(row, "is_claimed")?.then_some(Claim { lease_id, head }));
    made.as_ref().map(claimed).transpose()
}
