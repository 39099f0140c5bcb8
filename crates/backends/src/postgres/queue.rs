//! The queue: runs are rows that are claimed under a lease, and taken back when the lease ends.

use std::{collections::HashMap, time::Duration};

use futures_util::{TryFutureExt, try_join};
use threadyard_core::{
    cancel::CancelRequest,
    ids::RunId,
    json::{Object, RawJson},
    limits::PerOwner,
    runs::{ClaimRuns, ClaimedRun, ClaimedRuns, ExpireLeases, ExpiredRuns, GivenBack, Halt, Lease, QueueStats, Run},
    sealing::SealingContext,
    storage::StorageError,
    time::Timestamp,
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Client,
    checkpoints::{COLUMNS, tuples},
    ending, events,
    failures::{Done, Failure},
    limits,
    rows::{Parameter, all, execute, get, json, object, one, run, uuid},
};
use crate::{cipher::Cipher, expiry::last_word};

/// A due run that nothing in its thread goes before. A run that another server is just taking is passed over, and the
/// thread's next one is not taken in its place. Nor is it where the run before it has no delay and is only not yet due by
/// this server's clock: servers' clocks differ, and the order within a thread is not theirs to change. `OFFSET 0` keeps
/// each look into an index from becoming a join with all of it.
pub(super) const NEXT_OF_THREAD: &str = "status = 'pending' AND due_at <= $1
             AND NOT EXISTS (
                 SELECT 1 FROM run WHERE run.thread = due.thread AND run.status = 'running' OFFSET 0)
             AND NOT EXISTS (
                 SELECT 1 FROM run WHERE run.thread = due.thread AND run.k < due.k
                     AND run.status = 'pending' AND run.due_at <= run.created_at OFFSET 0)
             AND NOT EXISTS (
                 SELECT 1 FROM run WHERE run.thread = due.thread AND run.k < due.k AND run.due_at <= $1
                     AND run.status = 'pending' AND run.due_at > run.created_at OFFSET 0)";
/// Those that were chosen one by one, and that nobody has taken since.
const CHOSEN: &str = "SELECT k FROM run AS due WHERE k = ANY($2::bigint[]) AND status = 'pending'
             AND NOT EXISTS (SELECT 1 FROM run WHERE run.thread = due.thread AND run.status = 'running')";

/// Takes these runs, with the newest checkpoint of the thread's root namespace.
fn claiming(due: &str) -> String {
    format!(
    "WITH due AS ({due} FOR UPDATE OF due SKIP LOCKED),
     taken AS (
         UPDATE run SET status = 'running', attempt = attempt + 1, lease_id = $3, lease_until = $4,
             started_at = coalesce(started_at, $1), updated_at = $1
         FROM due WHERE run.k = due.k RETURNING run.*)
     SELECT taken.*, coalesce(thread.metadata, '{{}}') AS thread_metadata, head.*
     FROM taken LEFT JOIN thread ON thread.k = taken.thread
     LEFT JOIN lineage ON lineage.thread = taken.thread_id::text LEFT JOIN LATERAL (
         SELECT {COLUMNS} FROM checkpoint WHERE lineage = lineage.k AND ns = '' ORDER BY id DESC LIMIT 1) AS head ON true
     ORDER BY taken.k"
    )
}

/// Whatever statistics say of a queue that has just become long, its index is walked until there are enough: a bitmap
/// would be of all of it.
const WALKING: &str = "SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off";

pub(super) async fn claim(client: &Client, claim: &ClaimRuns) -> Done<ClaimedRuns> {
    let oldest = format!("SELECT k FROM run AS due WHERE {NEXT_OF_THREAD} ORDER BY due_at, k LIMIT $2");
    take(client, &oldest, &i64::from(claim.limit), claim).await
}

/// As `claim`, of each user and assistant no more than these.
pub(super) async fn claim_within(client: &Client, limits: PerOwner, claim: &ClaimRuns) -> Done<ClaimedRuns> {
    let chosen = limits::due(client, claim, limits).await?;
    take(client, CHOSEN, &chosen, claim).await
}

/// Takes runs, of which the second parameter says which.
async fn take(client: &Client, due: &str, which: Parameter<'_>, claim: &ClaimRuns) -> Done<ClaimedRuns> {
    let parameters: [Parameter<'_>; 4] = [&claim.now.0, which, &claim.lease_id.0, &claim.until.0];
    let later = "SELECT min(due_at) FROM run WHERE status = 'pending' AND due_at > $1";
    let sql = claiming(due);
    let walking = client.batch_execute(WALKING).map_err(Failure::from);
    let ((), rows, later) = try_join!(walking, all(client, &sql, &parameters), one(client, later, &parameters[..1]))?;
    let runs = if rows.is_empty() { Vec::new() } else { equipped(client, rows, claim).await? };
    Ok(ClaimedRuns { runs, next_due: get::<Option<i64>>(&later, 0)?.map(Timestamp) })
}

/// Claimed runs with what their holder needs to begin.
async fn equipped(client: &Client, rows: Vec<Row>, claim: &ClaimRuns) -> Done<Vec<ClaimedRun>> {
    let runs = rows.iter().map(|row| run(client.cipher(), row)).collect::<Done<Vec<_>>>()?;
    let metadata = rows.iter().map(|row| object("run", row, "thread_metadata")).collect::<Done<Vec<_>>>()?;
    let has_head = |row: &Row| matches!(row.try_get::<_, Option<i64>>("checkpoint_lineage"), Ok(Some(_)));
    let heads: Vec<_> = rows.into_iter().filter(has_head).collect();
    let ids = |wanted: fn(&&Run) -> bool| runs.iter().filter(wanted).map(|run| run.run_id.0).collect::<Vec<_>>();
    let (again, resumable) = (ids(|run| run.attempt > 1), ids(|run| run.kwargs.resumable));
    let (heads, resumed, said) =
        try_join!(tuples(client, &heads), leaving_checkpoints(client, &again), events::counts(client, &resumable))?;
    let mut heads: HashMap<_, _> = heads.into_iter().map(|head| (head.thread.clone(), head)).collect();
    let said: HashMap<_, _> = said.into_iter().collect();
    let equip = |(run, thread_metadata): (Run, Object)| ClaimedRun {
        lease: Lease { run_id: run.run_id, lease_id: claim.lease_id },
        thread_metadata,
        head: heads.remove(&run.thread_id.to_string()),
        resume: resumed.contains(&run.run_id.0),
        said: said.get(&run.run_id).copied().unwrap_or_default(),
        sealing: SealingContext::default(),
        run,
    };
    Ok(runs.into_iter().zip(metadata).map(equip).collect())
}

/// Which of these runs have left a checkpoint.
async fn leaving_checkpoints(client: &Client, runs: &[Uuid]) -> Done<Vec<Uuid>> {
    if runs.is_empty() {
        return Ok(Vec::new());
    }
    let rows = all(client, "SELECT DISTINCT run FROM checkpoint WHERE run = ANY($1)", &[&runs]).await?;
    rows.iter().map(|row| uuid(row, "run")).collect()
}

/// How the queue stands.
pub(super) async fn stats(client: &Client, now: Timestamp) -> Done<QueueStats> {
    let sql = "SELECT (SELECT count(*) FROM run WHERE status = 'pending') AS pending,
             (SELECT count(*) FROM run WHERE status = 'running') AS running,
             (SELECT min(due_at) FROM run WHERE status = 'pending' AND due_at <= $1) AS oldest,
             (SELECT due_at FROM run WHERE status = 'pending' AND due_at <= $1 ORDER BY due_at LIMIT 1 OFFSET (
                 SELECT count(*) / 2 FROM run WHERE status = 'pending' AND due_at <= $1)) AS median";
    let row = one(client, sql, &[&now.0]).await?;
    let waited = |since: Option<i64>| since.map_or(Duration::ZERO, |since| now.since(Timestamp(since)));
    Ok(QueueStats {
        pending: get::<i64>(&row, "pending")?.unsigned_abs(),
        running: get::<i64>(&row, "running")?.unsigned_abs(),
        longest_wait: waited(get(&row, "oldest")?),
        median_wait: waited(get(&row, "median")?),
    })
}

pub(super) async fn extend(client: &Client, leases: &[Lease], until: Timestamp) -> Done<Vec<(RunId, Halt)>> {
    let runs: Vec<_> = leases.iter().map(|lease| lease.run_id.0).collect();
    let ids: Vec<_> = leases.iter().map(|lease| lease.lease_id.0).collect();
    let sql = "UPDATE run SET lease_until = $1 FROM unnest($2::uuid[], $3::uuid[]) AS held (run, lease)
         WHERE id = held.run AND lease_id = held.lease AND status = 'running' RETURNING id, cancel";
    let mut cancels = HashMap::new();
    for row in all(client, sql, &[&until.0, &runs, &ids]).await? {
        cancels.insert(uuid(&row, "id")?, json("run", &row, "cancel")?);
    }
    let halt = |run_id: &Uuid| match cancels.get(run_id) {
        None => Some(Ok(Halt::Lost)),
        Some(cancel) => cancel.as_ref().map(asked),
    };
    runs.iter().filter_map(|run_id| Some(halt(run_id)?.map(|halt| (RunId(*run_id), halt)))).collect()
}

fn asked(cancel: &RawJson) -> Done<Halt> {
    let request: CancelRequest = serde_json::from_str(cancel.get())?;
    Ok(Halt::Asked(request.action))
}

/// Gives a run back. What its holder is writing is waited for: it was written under the lease.
pub(super) async fn requeue(client: &Client, lease: Lease, why: GivenBack, now: Timestamp) -> Done<()> {
    let (uncounted, shared_losses) = (i32::from(why != GivenBack::Failed), i32::from(why == GivenBack::SharedLoss));
    let sql = "WITH held AS (
             SELECT k FROM run WHERE id = $1 AND lease_id = $2 AND status = 'running' FOR UPDATE)
         UPDATE run SET status = 'pending', lease_id = NULL, lease_until = NULL, uncounted = uncounted + $3,
             shared_losses = shared_losses + $4, updated_at = $5
         FROM held WHERE run.k = held.k";
    let parameters: [Parameter<'_>; 5] = [&lease.run_id.0, &lease.lease_id.0, &uncounted, &shared_losses, &now.0];
    match execute(client, sql, &parameters).await? {
        0 => Err(StorageError::LeaseLost.into()),
        _ => Ok(()),
    }
}

/// Takes back what nobody is writing for and no other server is taking back.
pub(super) async fn expire(client: &Client, expire: ExpireLeases) -> Done<ExpiredRuns> {
    let sql = "SELECT * FROM run WHERE status = 'running' AND lease_until <= $1 ORDER BY k FOR UPDATE SKIP LOCKED";
    let mut expired = ExpiredRuns::default();
    for row in all(client, sql, &[&expire.now.0]).await? {
        let (stale, cancel) = with_cancel(client.cipher(), &row)?;
        match last_word(&stale, cancel, expire) {
            Some(ending) => {
                ending::end(client, &stale, &ending).await?;
                expired.ended.push((stale, ending));
            }
            None => expired.requeued.push(stale.run_id),
        }
    }
    if !expired.requeued.is_empty() {
        let requeued: Vec<_> = expired.requeued.iter().map(|RunId(id)| *id).collect();
        let sql = "UPDATE run SET status = 'pending', lease_id = NULL, lease_until = NULL, updated_at = $2
             WHERE id = ANY($1)";
        execute(client, sql, &[&requeued, &expire.now.0]).await?;
    }
    Ok(expired)
}

fn with_cancel(cipher: &Cipher, row: &Row) -> Done<(Run, Option<CancelRequest>)> {
    let cancel = json("run", row, "cancel")?.map(|text| serde_json::from_str(text.get())).transpose()?;
    Ok((run(cipher, row)?, cancel))
}
