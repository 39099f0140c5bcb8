//! Deliveries in PostgreSQL, as people see and steer them. What sends them is in `webhooks.rs`.

use async_trait::async_trait;
use threadyard_core::{
    deliveries::{Attempt, Deliveries, Delivery, DeliveryQuery, DeliveryState, Recovery, Steered},
    ids::{RecoveryId, RunId, ThreadId},
    page::{Page, Window},
    storage::Result,
    time::Timestamp,
};
use tokio_postgres::Row;

use super::{
    Client, PostgresStorage,
    failures::Done,
    recoveries,
    rows::{all, count, escaped, execute, first, get, one, optional_string, optional_time, string, time, uuid, word},
    sql::Sql,
};
use crate::cipher::Place;

#[async_trait]
impl Deliveries for PostgresStorage {
    async fn search_deliveries(&self, query: DeliveryQuery, window: Window) -> Result<Page<Delivery>> {
        let mut sql = matching("SELECT * FROM delivery WHERE true", query);
        sql.with("ORDER BY k DESC LIMIT ?", i64::from(window.limit) + 1);
        sql.with("OFFSET ?", i64::from(window.offset));
        let rows = all(&self.client().await?, &sql.text, &sql.parameters()).await?;
        Ok(Page::from_probe(rows.iter().map(delivery).collect::<Done<_>>()?, window))
    }

    async fn count_deliveries(&self, query: DeliveryQuery) -> Result<u64> {
        let sql = matching("SELECT count(*) FROM delivery WHERE true", query);
        let found = one(&self.client().await?, &sql.text, &sql.parameters()).await?;
        Ok(get::<i64>(&found, 0)?.unsigned_abs())
    }

    async fn delivery(&self, id: String) -> Result<Option<(Delivery, Vec<Attempt>)>> {
        let client = self.client().await?;
        let found = first(&client, "SELECT * FROM delivery WHERE id = $1", &[&escaped(&id)]).await?;
        let Some(found) = found else { return Ok(None) };
        let sql = "SELECT * FROM delivery_attempt WHERE delivery = $1 ORDER BY n";
        let attempts = all(&client, sql, &[&get::<i64>(&found, "k")?]).await?;
        Ok(Some((delivery(&found)?, attempts.iter().map(attempt).collect::<Done<_>>()?)))
    }

    async fn delivery_body(&self, id: String) -> Result<Option<String>> {
        let sql = "SELECT coalesce(body, '') FROM delivery LEFT JOIN delivery_body ON delivery = k WHERE id = $1";
        let client = self.client().await?;
        let Some(found) = first(&client, sql, &[&escaped(&id)]).await? else { return Ok(None) };
        Ok(Some(client.cipher().open_text(Place::Body(&id), get(&found, 0)?)?))
    }

    async fn resend_delivery(&self, id: String, now: Timestamp) -> Result<Steered> {
        self.transact((id, now), |client, (id, now)| {
            Box::pin(async move {
                let mut sql = resend(*now);
                sql.with("WHERE lease_id IS NULL AND NOT erased AND id = ?", escaped(id).into_owned());
                let changed = execute(client, &sql.text, &sql.parameters()).await?;
                steered(client, id, changed).await
            })
        })
        .await
    }

    async fn begin_recovery(&self, id: RecoveryId, query: DeliveryQuery, now: Timestamp) -> Result<()> {
        self.transact((id, query, now), |client, (id, query, now)| {
            Box::pin(recoveries::begin(client, *id, query, *now))
        })
        .await
    }

    async fn recover_deliveries(&self, limit: u32, now: Timestamp) -> Result<Option<Recovery>> {
        self.transact((limit, now), |client, (limit, now)| Box::pin(recoveries::go_on(client, *limit, *now))).await
    }

    async fn recovery(&self, id: RecoveryId) -> Result<Option<Recovery>> {
        Ok(recoveries::find(&self.client().await?, id).await?)
    }

    async fn cancel_delivery(&self, id: String, now: Timestamp) -> Result<Steered> {
        self.transact((id, now), |client, (id, now)| {
            Box::pin(async move {
                let changed = cancel(client, id, *now).await?;
                steered(client, id, changed).await
            })
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

/// Stops a delivery. What comes of an attempt that is on its way is not listened to any more.
async fn cancel(client: &Client, id: &str, now: Timestamp) -> Done<u64> {
    let sql = "WITH cancelled AS (
             UPDATE delivery SET state = coalesce(nullif(resent_from, 'pending'), 'cancelled'), finished_at = $2,
                 lease_id = NULL, resent_from = NULL, resume_at = NULL
             WHERE id = $1 AND state = 'pending' RETURNING k),
         unheard AS (
             UPDATE delivery_attempt SET state = 'unknown' FROM cancelled WHERE delivery = k AND state = 'started')
         SELECT k FROM cancelled";
    Ok(all(client, sql, &[&escaped(id), &now.0]).await?.len() as u64)
}

async fn steered(client: &Client, id: &str, changed: u64) -> Done<Steered> {
    if changed == 1 {
        return Ok(Steered::Done);
    }
    let found = first(client, "SELECT NOT erased FROM delivery WHERE id = $1", &[&escaped(id)]).await?;
    Ok(match found.map(|row| get(&row, 0)).transpose()? {
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
        sql.with("AND run_id = ?", run.0);
    }
    if let Some(thread) = query.thread_id {
        sql.with("AND thread_id = ?", thread.0);
    }
    if let Some(state) = query.state {
        sql.with("AND state = ?", state.as_str());
    }
    if let Some(origin) = query.origin {
        sql.with("AND origin = ?", escaped(&origin).into_owned());
    }
    if let Some(url) = query.url {
        sql.with("AND starts_with(shown_url, ?)", escaped(&url).into_owned());
    }
    if let Some(since) = query.since {
        sql.with("AND created_at >= ?", since.0);
    }
    if let Some(until) = query.until {
        sql.with("AND created_at < ?", until.0);
    }
}

fn delivery(row: &Row) -> Done<Delivery> {
    let state: DeliveryState = word("delivery", row, "state")?;
    let next_attempt_at = time(row, "next_attempt_at")?;
    Ok(Delivery {
        delivery_id: string(row, "id")?,
        run_id: RunId(uuid(row, "run_id")?),
        thread_id: ThreadId(uuid(row, "thread_id")?),
        event: string(row, "event")?,
        url: string(row, "shown_url")?,
        state,
        attempt_count: count(row, "attempts")?,
        next_attempt_at: (state == DeliveryState::Pending).then_some(next_attempt_at),
        last_status: status(row, "last_status")?,
        last_failure: optional_string(row, "last_failure")?,
        created_at: time(row, "created_at")?,
        finished_at: optional_time(row, "finished_at")?,
    })
}

fn attempt(row: &Row) -> Done<Attempt> {
    Ok(Attempt {
        n: count(row, "n")?,
        trigger: word("delivery_attempt", row, "trigger")?,
        state: word("delivery_attempt", row, "state")?,
        started_at: time(row, "started_at")?,
        ended_at: optional_time(row, "ended_at")?,
        status: status(row, "status")?,
        failure: optional_string(row, "failure")?,
    })
}

fn status(row: &Row, column: &str) -> Done<Option<u16>> {
    Ok(get::<Option<i32>>(row, column)?.and_then(|status| u16::try_from(status).ok()))
}
