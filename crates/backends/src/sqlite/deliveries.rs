//! Deliveries in SQLite, as people see and steer them. What sends them is in `webhooks.rs`.

use async_trait::async_trait;
use rusqlite::{Row, params};
use threadyard_core::{
    deliveries::{Attempt, Deliveries, Delivery, DeliveryQuery, DeliveryState, Recovery, Steered},
    ids::{RecoveryId, RunId, ThreadId},
    page::{Page, Window},
    storage::Result,
    time::Timestamp,
};

use super::{
    Connection, Done, SqliteStorage, recoveries,
    rows::{all, first, key, time, uuid, word},
    sql::Sql,
};
use crate::cipher::Place;

#[async_trait]
impl Deliveries for SqliteStorage {
    async fn search_deliveries(&self, query: DeliveryQuery, window: Window) -> Result<Page<Delivery>> {
        self.readers
            .read(move |connection| {
                let mut sql = matching("SELECT * FROM delivery WHERE true", query);
                sql.with("ORDER BY k DESC LIMIT ?", i64::from(window.limit) + 1);
                sql.with("OFFSET ?", window.offset);
                let rows = all(&mut connection.prepare_cached(&sql.text)?, &sql.parameters(), delivery)?;
                Ok(Page::from_probe(rows, window))
            })
            .await
    }

    async fn count_deliveries(&self, query: DeliveryQuery) -> Result<u64> {
        self.readers
            .read(move |connection| {
                let sql = matching("SELECT count(*) FROM delivery WHERE true", query);
                let mut statement = connection.prepare_cached(&sql.text)?;
                let count: i64 = statement.query_row(&*sql.parameters(), |row| row.get(0))?;
                Ok(count.unsigned_abs())
            })
            .await
    }

    async fn delivery(&self, id: String) -> Result<Option<(Delivery, Vec<Attempt>)>> {
        self.readers
            .read(move |connection| {
                let mut query = connection.prepare_cached("SELECT * FROM delivery WHERE id = ?1")?;
                let found = first(&mut query, &[&id], |row| Ok((row.get::<_, i64>("k")?, delivery(row)?)))?;
                let Some((k, delivery)) = found else { return Ok(None) };
                let mut query =
                    connection.prepare_cached("SELECT * FROM delivery_attempt WHERE delivery = ?1 ORDER BY n")?;
                Ok(Some((delivery, all(&mut query, &[&k], attempt)?)))
            })
            .await
    }

    async fn delivery_body(&self, id: String) -> Result<Option<String>> {
        self.readers
            .read(move |connection| {
                let mut query = connection.prepare_cached(
                    "SELECT coalesce(body, '') FROM delivery LEFT JOIN delivery_body ON delivery = k WHERE id = ?1",
                )?;
                first(&mut query, &[&id], |row| Ok(connection.cipher().open_text(Place::Body(&id), row.get(0)?)?))
            })
            .await
    }

    async fn resend_delivery(&self, id: String, now: Timestamp) -> Result<Steered> {
        self.writer
            .write(move |connection| {
                let mut sql = resend(now);
                sql.with("WHERE lease_id IS NULL AND NOT erased AND id = ?", id.clone());
                let changed = connection.prepare_cached(&sql.text)?.execute(&*sql.parameters())?;
                steered(connection, &id, changed)
            })
            .await
    }

    async fn begin_recovery(&self, id: RecoveryId, query: DeliveryQuery, now: Timestamp) -> Result<()> {
        self.writer.write(move |connection| recoveries::begin(connection, id, &query, now)).await
    }

    async fn recover_deliveries(&self, limit: u32, now: Timestamp) -> Result<Option<Recovery>> {
        self.writer.write(move |connection| recoveries::go_on(connection, limit, now)).await
    }

    async fn recovery(&self, id: RecoveryId) -> Result<Option<Recovery>> {
        self.readers.read(move |connection| recoveries::find(connection, id)).await
    }

    async fn cancel_delivery(&self, id: String, now: Timestamp) -> Result<Steered> {
        self.writer
            .write(move |connection| {
                let changed = connection
                    .prepare_cached(
                        "UPDATE delivery SET state = coalesce(nullif(resent_from, 'pending'), 'cancelled'),
                             finished_at = ?2, lease_id = NULL, resent_from = NULL, resume_at = NULL
                         WHERE id = ?1 AND state = 'pending'",
                    )?
                    .execute(params![id, now.0])?;
                // What comes of an attempt that is on its way is not listened to any more.
                connection
                    .prepare_cached(
                        "UPDATE delivery_attempt SET state = 'unknown'
                         WHERE state = 'started' AND delivery = (SELECT k FROM delivery WHERE id = ?1 AND lease_id IS NULL)",
                    )?
                    .execute([&id])?;
                steered(connection, &id, changed)
            })
            .await
    }
}

/// Makes an attempt due besides the schedule, and notes how to go on if it fails.
fn resend(now: Timestamp) -> Sql {
    let mut sql = Sql::new("UPDATE delivery SET resent_from = coalesce(resent_from, state), state = 'pending',");
    sql.add(
        "resume_at = CASE WHEN resent_from IS NOT NULL THEN resume_at WHEN state = 'pending' THEN next_attempt_at END,",
    );
    sql.with("finished_at = NULL, next_attempt_at = ?", now.0);
    sql.with(", scheduled_from = CASE state WHEN 'pending' THEN scheduled_from ELSE ? END", now.0);
    sql
}

fn steered(connection: &Connection, id: &str, changed: usize) -> Done<Steered> {
    if changed == 1 {
        return Ok(Steered::Done);
    }
    let mut query = connection.prepare_cached("SELECT NOT erased FROM delivery WHERE id = ?1")?;
    Ok(match first(&mut query, &[&id], |row| Ok(row.get::<_, bool>(0)?))? {
        Some(true) => Steered::NotNow,
        Some(false) => Steered::Erased,
        None => Steered::Missing,
    })
}

fn matching(select: &str, query: DeliveryQuery) -> Sql {
    let mut sql = Sql::new(select);
    narrow(&mut sql, query);
    sql
}

pub(super) fn narrow(sql: &mut Sql, query: DeliveryQuery) {
    if let Some(run) = query.run_id {
        sql.with("AND run_id = ?", key(run));
    }
    if let Some(thread) = query.thread_id {
        sql.with("AND thread_id = ?", key(thread));
    }
    if let Some(state) = query.state {
        sql.with("AND state = ?", state.as_str());
    }
    if let Some(origin) = query.origin {
        sql.with("AND origin = ?", origin);
    }
    if let Some(url) = query.url {
        sql.with("AND substr(shown_url, 1, length(?)) =", url.clone());
        sql.with("?", url);
    }
    if let Some(since) = query.since {
        sql.with("AND created_at >= ?", since.0);
    }
    if let Some(until) = query.until {
        sql.with("AND created_at < ?", until.0);
    }
}

fn delivery(row: &Row<'_>) -> Done<Delivery> {
    let state: DeliveryState = word("delivery", row, "state")?;
    let next_attempt_at = time(row, "next_attempt_at")?;
    Ok(Delivery {
        delivery_id: row.get("id")?,
        run_id: RunId(uuid(row, "run_id")?),
        thread_id: ThreadId(uuid(row, "thread_id")?),
        event: row.get("event")?,
        url: row.get("shown_url")?,
        state,
        attempt_count: row.get("attempts")?,
        next_attempt_at: (state == DeliveryState::Pending).then_some(next_attempt_at),
        last_status: row.get("last_status")?,
        last_failure: row.get("last_failure")?,
        created_at: time(row, "created_at")?,
        finished_at: row.get::<_, Option<i64>>("finished_at")?.map(Timestamp),
    })
}

fn attempt(row: &Row<'_>) -> Done<Attempt> {
    Ok(Attempt {
        n: row.get("n")?,
        trigger: word("delivery_attempt", row, "trigger")?,
        state: word("delivery_attempt", row, "state")?,
        started_at: time(row, "started_at")?,
        ended_at: row.get::<_, Option<i64>>("ended_at")?.map(Timestamp),
        status: row.get("status")?,
        failure: row.get("failure")?,
    })
}
