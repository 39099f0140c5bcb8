//! Webhook deliveries in SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};
use threadyard_core::{
    ids::{LeaseId, RunId},
    storage::Result,
    time::Timestamp,
    webhooks::{AttemptResult, ClaimDeliveries, ClaimedDeliveries, ClaimedDelivery, NextStep, Webhooks},
};

use super::{
    Done, SqliteStorage,
    rows::{all, key, uuid},
};

#[async_trait]
impl Webhooks for SqliteStorage {
    async fn claim_deliveries(&self, claim: ClaimDeliveries) -> Result<ClaimedDeliveries> {
        self.writer.write(move |connection| take(connection, claim)).await
    }

    async fn record_attempt(&self, result: AttemptResult) -> Result<()> {
        self.writer.write(move |connection| record(connection, &result)).await
    }
}

/// While a delivery is on its way, `next_attempt_at` is when its lease ends: whoever holds it is then presumed dead.
fn take(connection: &Connection, claim: ClaimDeliveries) -> Done<ClaimedDeliveries> {
    let mut query = connection.prepare_cached(
        "UPDATE delivery SET attempts = attempts + 1, lease_id = ?1, next_attempt_at = ?2
         WHERE k IN (
             SELECT k FROM delivery WHERE state = 'pending' AND next_attempt_at <= ?3 ORDER BY next_attempt_at, k LIMIT ?4)
         RETURNING id, run_id, url, body, attempts",
    )?;
    let parameters: [&dyn rusqlite::ToSql; 4] = [&key(claim.lease_id), &claim.until.0, &claim.now.0, &claim.limit];
    let deliveries = all(&mut query, &parameters, |row| delivery(row, claim.lease_id))?;
    let mut query = connection.prepare_cached("SELECT min(next_attempt_at) FROM delivery WHERE state = 'pending'")?;
    let next_due: Option<i64> = query.query_row([], |row| row.get(0))?;
    Ok(ClaimedDeliveries { deliveries, next_due: next_due.map(Timestamp) })
}

fn delivery(row: &Row<'_>, lease_id: LeaseId) -> Done<ClaimedDelivery> {
    Ok(ClaimedDelivery {
        id: row.get("id")?,
        run_id: RunId(uuid(row, "run_id")?),
        url: row.get("url")?,
        body: row.get("body")?,
        attempt: row.get("attempts")?,
        lease_id,
    })
}

fn record(connection: &Connection, result: &AttemptResult) -> Done<()> {
    let (state, next_attempt_at, finished_at) = match result.next {
        NextStep::Delivered => ("delivered", result.at, Some(result.at.0)),
        NextStep::RetryAt(again) => ("pending", again, None),
        NextStep::Failed => ("failed", result.at, Some(result.at.0)),
    };
    connection
        .prepare_cached(
            "UPDATE delivery SET state = ?3, next_attempt_at = ?4, finished_at = ?5, last_status = ?6, last_failure = ?7,
                 lease_id = NULL
             WHERE id = ?1 AND lease_id = ?2",
        )?
        .execute(params![
            result.id,
            key(result.lease_id),
            state,
            next_attempt_at.0,
            finished_at,
            result.status,
            result.failure,
        ])?;
    Ok(())
}
