//! How a run ends: its row, its thread, and the delivery of its webhook, in one transaction.

use std::borrow::Cow;

use rusqlite::params;
use threadyard_core::{
    push_configs::{notification_for, task_to_tell},
    runs::{EndStatus, Ending, Lease, Run},
    storage::StorageError,
    webhook_body::{NewDelivery, delivery_for},
    webhooks::{origin, without_secrets},
};

use super::{
    Connection, Done, events, lineages, push_configs,
    rows::{first, key, run, text},
    threads,
};
use crate::{cipher::Place, headers};

/// Ends a run whose lease is held. Says whether other runs wait for its thread.
pub(super) fn finish(connection: &Connection, lease: Lease, ending: &Ending) -> Done<bool> {
    let mut query =
        connection.prepare_cached("SELECT * FROM run WHERE id = ?1 AND lease_id = ?2 AND status = 'running'")?;
    let running = first(&mut query, &[&key(lease.run_id), &key(lease.lease_id)], |row| run(connection, row))?;
    end(connection, &running.ok_or(StorageError::LeaseLost)?, ending)
}

/// Ends a run, whoever decides it. Says whether other runs wait for its thread.
pub(super) fn end(connection: &Connection, run: &Run, ending: &Ending) -> Done<bool> {
    announce(connection, run, ending)?;
    events::close(connection, run, ending)?;
    let others_wait = has_other_runs(connection, run)?;
    if run.kwargs.temporary && !others_wait {
        threads::delete(connection, run.thread_id)?;
    } else {
        leave(connection, run, ending)?;
    }
    Ok(others_wait)
}

/// Writes what a run leaves on its row and its thread.
fn leave(connection: &Connection, run: &Run, ending: &Ending) -> Done<()> {
    if ending.status == EndStatus::Rollback {
        lineages::undo(connection, run.run_id)?;
        connection.prepare_cached("DELETE FROM run WHERE id = ?1")?.execute([key(run.run_id)])?;
        return Ok(());
    }
    let error = ending.error.as_ref().map(serde_json::to_string).transpose()?;
    let seal = |error| connection.cipher().seal_text(Place::Run("error", run.run_id.0), error);
    let error = error.map(seal).transpose()?;
    connection
        .prepare_cached(
            "UPDATE run SET status = ?2, error = ?3, lease_id = NULL, lease_until = NULL, updated_at = ?4 WHERE id = ?1",
        )?
        .execute(params![key(run.run_id), ending.status.run_status().as_str(), error, ending.at.0])?;
    match &ending.thread {
        Some(thread) => threads::leave(connection, run.thread_id, thread, ending.at).map(|_| ()),
        None => threads::keep(connection, run.thread_id, ending.at),
    }
}

/// Whether a thread has more to do once this run has ended. A temporary one that does is kept for whoever asked for that.
pub(super) fn has_other_runs(connection: &Connection, run: &Run) -> Done<bool> {
    let mut query = connection.prepare_cached(
        "SELECT 1 FROM run WHERE thread = (SELECT k FROM thread WHERE id = ?1) AND id <> ?2
             AND status IN ('pending', 'running')",
    )?;
    Ok(query.exists(params![key(run.thread_id), key(run.run_id)])?)
}

/// Writes the deliveries that the end of a run gives rise to: that of its webhook, and those of its task's push configs.
fn announce(connection: &Connection, run: &Run, ending: &Ending) -> Done<()> {
    if run.kwargs.webhook.is_some() {
        let mut next = connection
            .prepare_cached("UPDATE thread SET ends_told = ends_told + 1 WHERE id = ?1 RETURNING ends_told")?;
        let thread_seq = first(&mut next, &[&key(run.thread_id)], |row| Ok(row.get::<_, i64>(0)?))?.unwrap_or(1);
        if let Some(delivery) = delivery_for(run, ending, thread_seq.unsigned_abs()) {
            tell(connection, &delivery)?;
        }
    }
    if let Some(task) = task_to_tell(run) {
        for config in push_configs::of_task(connection, task)? {
            tell(connection, &notification_for(&config, run, ending))?;
        }
    }
    Ok(())
}

/// Writes a delivery. Its id comes from the run, so a repeated ending adds nothing.
fn tell(connection: &Connection, delivery: &NewDelivery) -> Done<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO delivery (id, run_id, thread_id, event, url, shown_url, origin, state, next_attempt_at, created_at,
             scheduled_from, headers, maker)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, 'pending', ?8, ?8, ?8, ?9, ?10 FROM run WHERE id = ?2 AND webhooks_enabled
         ON CONFLICT (id) DO NOTHING RETURNING k",
    )?;
    let (run_id, thread_id) = (key(delivery.run_id), key(delivery.thread_id));
    let (shown_url, origin) = (without_secrets(&delivery.url), origin(&delivery.url).unwrap_or_default());
    let sealed = |column, text| connection.cipher().seal_text(Place::Delivery(column, &delivery.id), text);
    let url = sealed("url", Cow::from(&delivery.url))?;
    let headers = headers::kept(&delivery.headers)?.map(|it| sealed("headers", it.into())).transpose()?;
    let maker = headers::kept_maker(delivery.maker.as_ref())?.map(|it| sealed("maker", it.into())).transpose()?;
    let inserted = first(
        &mut insert,
        params![
            delivery.id,
            run_id,
            thread_id,
            delivery.event,
            url,
            shown_url,
            origin,
            delivery.created_at.0,
            headers,
            maker
        ],
        |row| Ok(row.get::<_, i64>(0)?),
    )?;
    if let Some(k) = inserted {
        let mut insert = connection.prepare_cached("INSERT INTO delivery_body (delivery, body) VALUES (?1, ?2)")?;
        let body = connection.cipher().seal_text(Place::Body(&delivery.id), text(&delivery.body))?;
        insert.execute(params![k, body])?;
    }
    Ok(())
}
