//! The queue: runs are rows that are claimed under a lease, and taken back when the lease ends.

use std::time::Duration;

use rusqlite::{Row, params};
use threadyard_core::{
    cancel::CancelRequest,
    checkpoints::CheckpointTuple,
    ids::{LeaseId, RunId},
    json::{Object, RawJson},
    limits::PerOwner,
    runs::{ClaimRuns, ClaimedRun, ClaimedRuns, ExpireLeases, ExpiredRuns, GivenBack, Halt, Lease, QueueStats, Run},
    sealing::SealingContext,
    storage::StorageError,
    time::Timestamp,
};

use super::{
    Connection, Done, checkpoints, ending, events, limits,
    rows::{all, first, json, key, lineage_key, object, run},
};
use crate::expiry::last_word;

/// The oldest due run of each thread that has none running. A clock that was set back changes no order.
pub(super) const OLDEST: &str = "SELECT oldest FROM (
        SELECT thread, min(k) AS oldest FROM run AS due INDEXED BY run_queue WHERE status = 'pending' AND due_at <= ?1
            AND NOT EXISTS (
                SELECT 1 FROM run INDEXED BY run_one_running WHERE run.thread = due.thread AND run.status = 'running')
        GROUP BY thread) AS due
    WHERE NOT EXISTS (
        SELECT 1 FROM run INDEXED BY run_open WHERE run.thread = due.thread AND run.status IN ('pending', 'running')
            AND run.status = 'pending' AND run.k < oldest AND run.due_at <= run.created_at)
    ORDER BY oldest LIMIT ?2";
pub(super) const EXPIRED: &str =
    "SELECT * FROM run INDEXED BY run_leased WHERE status = 'running' AND lease_until <= ?1 ORDER BY k";

pub(super) fn claim(connection: &Connection, claim: ClaimRuns) -> Done<ClaimedRuns> {
    let mut due = connection.prepare_cached(OLDEST)?;
    let keys = all(&mut due, &[&claim.now.0, &claim.limit], |row| Ok(row.get::<_, i64>(0)?))?;
    leased(connection, keys, claim)
}

/// As `claim`, of each user and assistant no more than these.
pub(super) fn claim_within(connection: &Connection, limits: PerOwner, claim: ClaimRuns) -> Done<ClaimedRuns> {
    let keys = limits::due(connection, &claim, limits)?;
    leased(connection, keys, claim)
}

fn leased(connection: &Connection, keys: Vec<i64>, claim: ClaimRuns) -> Done<ClaimedRuns> {
    let runs = keys.into_iter().map(|k| lease(connection, k, &claim)).collect::<Done<Vec<_>>>()?;
    let mut later =
        connection.prepare_cached("SELECT min(due_at) FROM run WHERE status = 'pending' AND due_at > ?1")?;
    let next_due: Option<i64> = later.query_row([claim.now.0], |row| row.get(0))?;
    Ok(ClaimedRuns { runs, next_due: next_due.map(Timestamp) })
}

/// How the queue stands.
pub(super) fn stats(connection: &Connection, now: Timestamp) -> Done<QueueStats> {
    let count = |sql: &str| -> Done<u64> {
        let count: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    };
    let mut due =
        connection.prepare_cached("SELECT count(*), min(due_at) FROM run WHERE status = 'pending' AND due_at <= ?1")?;
    let (due, oldest): (i64, Option<i64>) = due.query_row([now.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut middle = connection.prepare_cached(
        "SELECT due_at FROM run WHERE status = 'pending' AND due_at <= ?1 ORDER BY due_at LIMIT 1 OFFSET ?2",
    )?;
    let median = first(&mut middle, &[&now.0, &(due / 2)], |row| Ok(row.get::<_, i64>(0)?))?;
    let waited = |since: Option<i64>| since.map_or(Duration::ZERO, |since| now.since(Timestamp(since)));
    Ok(QueueStats {
        pending: count("SELECT count(*) FROM run WHERE status = 'pending'")?,
        running: count("SELECT count(*) FROM run WHERE status = 'running'")?,
        longest_wait: waited(oldest),
        median_wait: waited(median),
    })
}

fn lease(connection: &Connection, k: i64, claim: &ClaimRuns) -> Done<ClaimedRun> {
    connection
        .prepare_cached(
            "UPDATE run SET status = 'running', attempt = attempt + 1, lease_id = ?2, lease_until = ?3,
                 started_at = coalesce(started_at, ?4), updated_at = ?4
             WHERE k = ?1",
        )?
        .execute(params![k, key(claim.lease_id), claim.until.0, claim.now.0])?;
    let mut query = connection.prepare_cached("SELECT * FROM run WHERE k = ?1")?;
    let run = first(&mut query, &[&k], |row| run(connection, row))?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    claimed(connection, run, claim.lease_id)
}

/// A run that was just claimed, with what is needed to execute it.
pub(super) fn claimed(connection: &Connection, claimed: Run, lease_id: LeaseId) -> Done<ClaimedRun> {
    let lease = Lease { run_id: claimed.run_id, lease_id };
    let thread_metadata = thread_metadata(connection, &claimed)?;
    let head = head(connection, &claimed)?;
    let resume = claimed.attempt > 1 && checkpoints::written_by(connection, claimed.run_id)?;
    let said = if claimed.kwargs.resumable { events::count(connection, claimed.run_id)? } else { 0 };
    Ok(ClaimedRun { run: claimed, lease, thread_metadata, head, resume, said, sealing: SealingContext::default() })
}

fn thread_metadata(connection: &Connection, claimed: &Run) -> Done<Object> {
    let mut query = connection.prepare_cached("SELECT id, metadata FROM thread WHERE id = ?1")?;
    let metadata = first(&mut query, &[&key(claimed.thread_id)], |row| object("thread", row, "metadata"))?;
    Ok(metadata.unwrap_or_default())
}

fn head(connection: &Connection, claimed: &Run) -> Done<Option<CheckpointTuple>> {
    checkpoints::find(connection, &lineage_key(&claimed.thread_id.to_string()), "", None)
}

pub(super) fn extend(connection: &Connection, leases: &[Lease], until: Timestamp) -> Done<Vec<(RunId, Halt)>> {
    let mut update = connection.prepare_cached(
        "UPDATE run SET lease_until = ?3 WHERE id = ?1 AND lease_id = ?2 AND status = 'running' RETURNING id, cancel",
    )?;
    let mut halted = Vec::new();
    for lease in leases {
        let parameters = params![key(lease.run_id), key(lease.lease_id), until.0];
        let held = first(&mut update, parameters, |row| json("run", row, "cancel"))?;
        let halt = match held {
            None => Some(Halt::Lost),
            Some(cancel) => cancel.map(|text| asked(&text)).transpose()?,
        };
        halted.extend(halt.map(|halt| (lease.run_id, halt)));
    }
    Ok(halted)
}

fn asked(cancel: &RawJson) -> Done<Halt> {
    let request: CancelRequest = serde_json::from_str(cancel.get())?;
    Ok(Halt::Asked(request.action))
}

/// Fails unless the lease is still the one of a running run.
pub(super) fn check(connection: &Connection, lease: Lease) -> Done<()> {
    let mut query =
        connection.prepare_cached("SELECT 1 FROM run WHERE id = ?1 AND lease_id = ?2 AND status = 'running'")?;
    if query.exists(params![key(lease.run_id), key(lease.lease_id)])? {
        Ok(())
    } else {
        Err(StorageError::LeaseLost.into())
    }
}

pub(super) fn requeue(connection: &Connection, lease: Lease, why: GivenBack, now: Timestamp) -> Done<()> {
    check(connection, lease)?;
    let (uncounted, shared_losses) = (i64::from(why != GivenBack::Failed), i64::from(why == GivenBack::SharedLoss));
    connection
        .prepare_cached(
            "UPDATE run SET status = 'pending', lease_id = NULL, lease_until = NULL, uncounted = uncounted + ?2,
                 shared_losses = shared_losses + ?3, updated_at = ?4
             WHERE id = ?1",
        )?
        .execute(params![key(lease.run_id), uncounted, shared_losses, now.0])?;
    Ok(())
}

pub(super) fn expire(connection: &Connection, expire: ExpireLeases) -> Done<ExpiredRuns> {
    let mut query = connection.prepare_cached(EXPIRED)?;
    let mut expired = ExpiredRuns::default();
    for (stale, cancel) in all(&mut query, &[&expire.now.0], |row| with_cancel(connection, row))? {
        if let Some(ending) = last_word(&stale, cancel, expire) {
            ending::end(connection, &stale, &ending)?;
            expired.ended.push((stale, ending));
            continue;
        }
        connection
            .prepare_cached(
                "UPDATE run SET status = 'pending', lease_id = NULL, lease_until = NULL, updated_at = ?2 WHERE id = ?1",
            )?
            .execute(params![key(stale.run_id), expire.now.0])?;
        expired.requeued.push(stale.run_id);
    }
    Ok(expired)
}

fn with_cancel(connection: &Connection, row: &Row<'_>) -> Done<(Run, Option<CancelRequest>)> {
    let cancel = json("run", row, "cancel")?.map(|text| serde_json::from_str(text.get())).transpose()?;
    Ok((run(connection, row)?, cancel))
}
