//! How a run ends: its row, its thread, and the delivery of its webhook, in one transaction.
//!
//! Whoever locks a thread and its runs locks the thread first.

use futures_util::try_join;
use threadyard_core::{
    runs::{EndStatus, Ending, Lease, Run},
    storage::StorageError,
    threads::ThreadUpdate,
    webhook_body::delivery_for,
    webhooks::{origin, without_secrets},
};

use super::{
    Client, events,
    failures::Done,
    lineages,
    rows::{Parameter, Text, all, both, execute, first, get, run},
    threads,
};
use crate::saved_state;

/// Whether an ending may concern nothing but the run's row and its thread's.
pub(super) fn may_be_plain(ending: &Ending) -> bool {
    ending.status != EndStatus::Rollback && ending.last_event().is_none()
}

/// The row of a plain run whose lease is held, and that of its thread.
const END: &str = "WITH home AS (
        SELECT thread.k FROM run JOIN thread ON thread.k = run.thread WHERE run.id = $1 FOR NO KEY UPDATE OF thread),
    ended AS (
        UPDATE run SET status = $3, error = $4, lease_id = NULL, lease_until = NULL, updated_at = $5 FROM home
        WHERE id = $1 AND lease_id = $2 AND status = 'running' AND plain RETURNING thread)";

/// Ends a run whose lease is held with a single statement, if nothing else has to be done. Says whether it did.
pub(super) async fn finish_plainly(client: &Client, lease: Lease, ending: &Ending) -> Done<bool> {
    let error = ending.error.as_ref().map(serde_json::to_string).transpose()?;
    let status = ending.status.run_status().as_str();
    let row: [Parameter<'_>; 5] = [&lease.run_id.0, &lease.lease_id.0, &status, &error, &ending.at.0];
    let ended = if let Some(update) = &ending.thread {
        let sql = format!(
            "{END}, left_behind AS (
                     UPDATE thread SET rest_status = $6, state_values = coalesce($7, state_values), interrupts = $8,
                         error = $9, state = $10, state_revision = $11, updated_at = $5, state_updated_at = $5,
                         expires_at = $5 + ttl
                     FROM ended WHERE thread.k = ended.thread)
                 SELECT thread FROM ended"
        );
        let ThreadUpdate { status, values, outcome, state } = update;
        let thread: [Parameter<'_>; 6] = [
            &status.as_str(),
            &values.as_ref().map(|it| it.get()),
            &outcome.interrupts.get(),
            &outcome.error.as_ref().map(|it| it.get()),
            &saved_state::kept(update),
            &state.as_ref().map(|saved| saved.revision.as_str()),
        ];
        first(client, &sql, &[&row[..], &thread].concat()).await?
    } else {
        let sql = format!(
                "{END}, kept AS (
                     UPDATE thread SET expires_at = $5 + ttl FROM ended WHERE thread.k = ended.thread AND ttl IS NOT NULL)
                 SELECT thread FROM ended"
            );
        first(client, &sql, &row).await?
    };
    Ok(ended.is_some())
}

/// Ends a run whose lease is held.
pub(super) async fn finish(client: &Client, lease: Lease, ending: &Ending) -> Done<()> {
    let thread = "SELECT thread.k FROM run JOIN thread ON thread.k = run.thread WHERE run.id = $1
         FOR NO KEY UPDATE OF thread";
    let held = "SELECT run.*, EXISTS (
             SELECT 1 FROM run AS other WHERE other.thread = run.thread AND other.id <> $1
                 AND other.status IN ('pending', 'running')) AS accompanied
         FROM run WHERE id = $1 AND lease_id = $2 AND status = 'running' FOR UPDATE OF run";
    let (thread, held) =
        both(client, (thread, &[&lease.run_id.0]), (held, &[&lease.run_id.0, &lease.lease_id.0])).await?;
    let held = held.first().ok_or(StorageError::LeaseLost)?;
    let ended = run(held)?;
    match thread.first() {
        Some(thread) if ended.kwargs.temporary && !get::<bool>(held, "accompanied")? => {
            announce(client, &ended, ending).await?;
            threads::delete_locked(client, get(thread, "k")?, ended.thread_id).await.map(drop)
        }
        _ => leave(client, &ended, ending).await,
    }
}

/// Ends a run that is locked, whoever decides it.
pub(super) async fn end(client: &Client, run: &Run, ending: &Ending) -> Done<()> {
    if run.kwargs.temporary && !has_other_runs(client, run).await? {
        announce(client, run, ending).await?;
        return threads::delete(client, run.thread_id).await.map(drop);
    }
    leave(client, run, ending).await
}

/// Ends a run whose thread stays.
async fn leave(client: &Client, run: &Run, ending: &Ending) -> Done<()> {
    if ending.status == EndStatus::Rollback {
        announce(client, run, ending).await?;
        lineages::undo(client, run.run_id).await?;
        execute(client, "DELETE FROM run WHERE id = $1", &[&run.run_id.0]).await?;
        return Ok(());
    }
    let error = ending.error.as_ref().map(serde_json::to_string).transpose()?;
    let status = ending.status.run_status().as_str();
    let parameters: [Parameter<'_>; 4] = [&run.run_id.0, &status, &error, &ending.at.0];
    let row = execute(
        client,
        "UPDATE run SET status = $2, error = $3, lease_id = NULL, lease_until = NULL, updated_at = $4 WHERE id = $1",
        &parameters,
    );
    let thread = async {
        match &ending.thread {
            Some(thread) => threads::leave(client, run.thread_id, thread, ending.at).await.map(drop),
            None => threads::keep(client, run.thread_id, ending.at).await,
        }
    };
    try_join!(row, announce(client, run, ending), events::close(client, run, ending), thread)?;
    Ok(())
}

/// Whether a thread has more to do once this run has ended. A temporary one that does is kept for whoever asked for that.
pub(super) async fn has_other_runs(client: &Client, run: &Run) -> Done<bool> {
    let sql = "SELECT 1 FROM run WHERE thread = (SELECT k FROM thread WHERE id = $1) AND id <> $2
         AND status IN ('pending', 'running') LIMIT 1";
    Ok(first(client, sql, &[&run.thread_id.0, &run.run_id.0]).await?.is_some())
}

/// Writes the delivery of the run's webhook. Its id comes from the run, so a repeated ending adds nothing.
async fn announce(client: &Client, run: &Run, ending: &Ending) -> Done<()> {
    if run.kwargs.webhook.is_none() {
        return Ok(());
    }
    let next = "UPDATE thread SET ends_told = ends_told + 1 WHERE id = $1 RETURNING ends_told";
    let thread_seq = first(client, next, &[&run.thread_id.0]).await?.map(|row| get::<i64>(&row, 0)).transpose()?;
    let Some(delivery) = delivery_for(run, ending, thread_seq.unwrap_or(1).unsigned_abs()) else { return Ok(()) };
    let (shown_url, origin) = (without_secrets(&delivery.url), origin(&delivery.url).unwrap_or_default());
    let parameters: [Parameter<'_>; 9] = [
        &delivery.id,
        &delivery.run_id.0,
        &delivery.thread_id.0,
        &delivery.event,
        &Text(&delivery.url),
        &Text(&shown_url),
        &Text(&origin),
        &delivery.created_at.0,
        &delivery.body.get(),
    ];
    all(
        client,
        "WITH told AS (
             INSERT INTO delivery (id, run_id, thread_id, event, url, shown_url, origin, state, next_attempt_at,
                 created_at, scheduled_from)
             SELECT $1, $2, $3, $4, $5, $6, $7, 'pending', $8, $8, $8 FROM run WHERE id = $2 AND webhooks_enabled
             ON CONFLICT (id) DO NOTHING RETURNING k)
         INSERT INTO delivery_body (delivery, body) SELECT k, $9 FROM told",
        &parameters,
    )
    .await?;
    Ok(())
}
