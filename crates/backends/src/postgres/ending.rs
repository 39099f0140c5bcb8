//! How a run ends: its row, its thread, and the delivery of its webhook, in one transaction.
//!
//! Whoever locks a thread and its runs locks the thread first.

use std::borrow::Cow;

use futures_util::try_join;
use threadyard_core::{
    agent_tasks::is_of_a_task,
    cancel::{CancelRequest, CancelledRun},
    ids::{RunId, ThreadId},
    json::Object,
    push_configs::{notification_for, task_to_tell},
    runs::{EndStatus, Ending, Lease, Run, RunKwargs, RunStatus},
    storage::StorageError,
    time::Timestamp,
    webhook_body::{NewDelivery, delivery_for},
    webhooks::{origin, without_secrets},
};

use super::{
    Client, events,
    failures::Done,
    lineages, push_configs,
    rows::{Parameter, Text, all, both, execute, first, get, run},
    threads::{self, Left},
};
use crate::{
    cipher::{Cipher, Place},
    headers,
};

/// Whether the end of a run concerns its own row and its thread's alone.
pub(super) fn is_plain(kwargs: &RunKwargs, metadata: &Object) -> bool {
    kwargs.webhook.is_none() && !kwargs.temporary && !kwargs.event_streaming() && !is_of_a_task(metadata)
}

/// Whether an ending may concern nothing but the run's row and its thread's.
pub(super) fn may_be_plain(ending: &Ending) -> bool {
    ending.status != EndStatus::Rollback && ending.failure().is_none()
}

/// The row of a plain run whose lease is held, and that of its thread.
const END: &str = "WITH home AS (
        SELECT thread.k FROM run JOIN thread ON thread.k = run.thread WHERE run.id = $1 FOR NO KEY UPDATE OF thread),
    ended AS (
        UPDATE run SET status = $3, error = $4, lease_id = NULL, lease_until = NULL, updated_at = $5 FROM home
        WHERE id = $1 AND lease_id = $2 AND status = 'running' AND plain RETURNING thread)";

/// What both ways of ending one end with.
const ENDED: &str = "SELECT EXISTS (
        SELECT 1 FROM run WHERE run.thread = ended.thread AND id <> $1 AND status IN ('pending', 'running')
    ) AS others_wait FROM ended";

/// A run that ends, and its thread.
pub(super) struct Ended {
    pub(super) lease: Lease,
    pub(super) thread_id: ThreadId,
}

/// Ends a run whose lease is held with a single statement, if nothing else has to be done. Says whether it did, and
/// whether other runs wait for the thread.
pub(super) async fn finish_plainly(client: &Client, ended: &Ended, ending: &Ending) -> Done<Option<bool>> {
    let Ended { lease, thread_id } = ended;
    let error = error_of(client.cipher(), lease.run_id, ending)?;
    let status = ending.status.run_status().as_str();
    let row: [Parameter<'_>; 5] = [&lease.run_id.0, &lease.lease_id.0, &status, &error, &ending.at.0];
    let ended = if let Some(update) = &ending.thread {
        let sql = format!(
            "{END}, left_behind AS (
                     UPDATE thread SET rest_status = $6, state_values = coalesce($7, state_values), interrupts = $8,
                         error = $9, state = $10, state_revision = $11, updated_at = $5, state_updated_at = $5,
                         expires_at = $5 + ttl
                     FROM ended WHERE thread.k = ended.thread)
                 {ENDED}"
        );
        let Left { values, interrupts, error, state } = Left::of(client.cipher(), *thread_id, update)?;
        let thread: [Parameter<'_>; 6] =
            [&update.status.as_str(), &values, &interrupts, &error, &state, &threads::revision(update)];
        first(client, &sql, &[&row[..], &thread].concat()).await?
    } else {
        let sql = format!(
                "{END}, kept AS (
                     UPDATE thread SET expires_at = $5 + ttl FROM ended WHERE thread.k = ended.thread AND ttl IS NOT NULL)
                 {ENDED}"
            );
        first(client, &sql, &row).await?
    };
    ended.map(|row| get(&row, "others_wait")).transpose()
}

/// Ends a run whose lease is held. Says whether other runs wait for the thread.
pub(super) async fn finish(client: &Client, lease: Lease, ending: &Ending) -> Done<bool> {
    let thread = "SELECT thread.k FROM run JOIN thread ON thread.k = run.thread WHERE run.id = $1
         FOR NO KEY UPDATE OF thread";
    let held = "SELECT run.*, EXISTS (
             SELECT 1 FROM run AS other WHERE other.thread = run.thread AND other.id <> $1
                 AND other.status IN ('pending', 'running')) AS accompanied
         FROM run WHERE id = $1 AND lease_id = $2 AND status = 'running' FOR UPDATE OF run";
    let (thread, held) =
        both(client, (thread, &[&lease.run_id.0]), (held, &[&lease.run_id.0, &lease.lease_id.0])).await?;
    let held = held.first().ok_or(StorageError::LeaseLost)?;
    let (ended, others_wait) = (run(client.cipher(), held)?, get::<bool>(held, "accompanied")?);
    match thread.first() {
        Some(thread) if ended.kwargs.temporary && !others_wait => {
            announce(client, &ended, ending).await?;
            threads::delete_locked(client, get(thread, "k")?, ended.thread_id).await?;
        }
        _ => leave(client, &ended, ending).await?,
    }
    Ok(others_wait)
}

/// Ends a run that is locked, whoever decides it.
pub(super) async fn end(client: &Client, run: &Run, ending: &Ending) -> Done<()> {
    if run.kwargs.temporary && !has_other_runs(client, run).await? {
        announce(client, run, ending).await?;
        return threads::delete(client, run.thread_id).await.map(drop);
    }
    leave(client, run, ending).await
}

/// Ends a pending run, or notes on a running one that it is to stop.
pub(super) async fn cancel(
    client: &Client,
    found: &Run,
    request: &CancelRequest,
    now: Timestamp,
) -> Done<CancelledRun> {
    match found.status {
        RunStatus::Pending => {
            end(client, found, &request.ending(now)).await?;
            Ok(CancelledRun::Ended)
        }
        RunStatus::Running => {
            let sql = "UPDATE run SET cancel = coalesce(cancel, $2) WHERE id = $1";
            execute(client, sql, &[&found.run_id.0, &serde_json::to_string(request)?]).await?;
            Ok(CancelledRun::Stopping)
        }
        _ => Ok(CancelledRun::Finished),
    }
}

/// Ends a run whose thread stays.
async fn leave(client: &Client, run: &Run, ending: &Ending) -> Done<()> {
    if ending.status == EndStatus::Rollback {
        announce(client, run, ending).await?;
        lineages::undo(client, run.run_id).await?;
        execute(client, "DELETE FROM run WHERE id = $1", &[&run.run_id.0]).await?;
        return Ok(());
    }
    let error = error_of(client.cipher(), run.run_id, ending)?;
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

/// The error that a run ended with, as its column holds it.
fn error_of(cipher: &Cipher, run: RunId, ending: &Ending) -> Done<Option<String>> {
    let Some(error) = &ending.error else { return Ok(None) };
    Ok(Some(cipher.seal_text(Place::Run("error", run.0), serde_json::to_string(error)?)?.into_owned()))
}

/// Whether a thread has more to do once this run has ended. A temporary one that does is kept for whoever asked for that.
pub(super) async fn has_other_runs(client: &Client, run: &Run) -> Done<bool> {
    let sql = "SELECT 1 FROM run WHERE thread = (SELECT k FROM thread WHERE id = $1) AND id <> $2
         AND status IN ('pending', 'running') LIMIT 1";
    Ok(first(client, sql, &[&run.thread_id.0, &run.run_id.0]).await?.is_some())
}

/// Writes the deliveries that the end of a run gives rise to: that of its webhook, and those of its task's push configs.
async fn announce(client: &Client, run: &Run, ending: &Ending) -> Done<()> {
    if run.kwargs.webhook.is_some() {
        let next = "UPDATE thread SET ends_told = ends_told + 1 WHERE id = $1 RETURNING ends_told";
        let thread_seq = first(client, next, &[&run.thread_id.0]).await?.map(|row| get::<i64>(&row, 0)).transpose()?;
        if let Some(delivery) = delivery_for(run, ending, thread_seq.unwrap_or(1).unsigned_abs()) {
            tell(client, &delivery).await?;
        }
    }
    if let Some(task) = task_to_tell(run) {
        for config in push_configs::of_task(client, task).await? {
            tell(client, &notification_for(&config, run, ending)).await?;
        }
    }
    Ok(())
}

/// Writes a delivery. Its id comes from the run, so a repeated ending adds nothing.
async fn tell(client: &Client, delivery: &NewDelivery) -> Done<()> {
    let (shown_url, origin) = (without_secrets(&delivery.url), origin(&delivery.url).unwrap_or_default());
    let sealed = |column, text| client.cipher().seal_text(Place::Delivery(column, &delivery.id), text);
    let url = sealed("url", Cow::from(&delivery.url))?;
    let headers = headers::kept(&delivery.headers)?.map(|it| sealed("headers", it.into())).transpose()?;
    let body = client.cipher().seal_text(Place::Body(&delivery.id), delivery.body.get())?;
    let maker = headers::kept_maker(delivery.maker.as_ref())?.map(|it| sealed("maker", it.into())).transpose()?;
    let parameters: [Parameter<'_>; 11] = [
        &delivery.id,
        &delivery.run_id.0,
        &delivery.thread_id.0,
        &delivery.event,
        &Text(&url),
        &Text(&shown_url),
        &Text(&origin),
        &delivery.created_at.0,
        &body,
        &headers,
        &maker,
    ];
    all(
        client,
        "WITH told AS (
             INSERT INTO delivery (id, run_id, thread_id, event, url, shown_url, origin, state, next_attempt_at,
                 created_at, scheduled_from, headers, maker)
             SELECT $1, $2, $3, $4, $5, $6, $7, 'pending', $8, $8, $8, $10, $11 FROM run WHERE id = $2 AND webhooks_enabled
             ON CONFLICT (id) DO NOTHING RETURNING k)
         INSERT INTO delivery_body (delivery, body) SELECT k, $9 FROM told",
        &parameters,
    )
    .await?;
    Ok(())
}
