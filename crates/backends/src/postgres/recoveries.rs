//! Recoveries in PostgreSQL: having many deliveries sent again, some at a time.

use threadyard_core::{
    deliveries::{DeliveryQuery, Recovery},
    ids::RecoveryId,
    time::Timestamp,
};
use tokio_postgres::Row;

use super::{
    Client,
    deliveries::narrow,
    failures::Done,
    rows::{Parameter, all, decoded, execute, first, get, optional_time, time, uuid},
    sql::Sql,
};

pub(super) async fn begin(client: &Client, id: RecoveryId, query: &DeliveryQuery, now: Timestamp) -> Done<()> {
    let sql = "INSERT INTO recovery (id, query, last, created_at)
         SELECT $1, $2, coalesce((SELECT max(k) FROM delivery), 0), $3";
    execute(client, sql, &[&id.0, &serde_json::to_string(query)?, &now.0]).await.map(drop)
}

pub(super) async fn find(client: &Client, id: RecoveryId) -> Done<Option<Recovery>> {
    let found = first(client, "SELECT * FROM recovery WHERE id = $1", &[&id.0]).await?;
    found.as_ref().map(recovery).transpose()
}

/// Makes the next deliveries due, and moves on in the same transaction. What another server is going on with is passed
/// over.
pub(super) async fn go_on(client: &Client, limit: u32, now: Timestamp) -> Done<Option<Recovery>> {
    let open = "SELECT * FROM recovery WHERE finished_at IS NULL ORDER BY k LIMIT 1 FOR UPDATE SKIP LOCKED";
    let Some(found) = first(client, open, &[]).await? else { return Ok(None) };
    let (recovery, query) = (recovery(&found)?, decoded("recovery", &found, "query")?);
    let (reached, last): (i64, i64) = (get(&found, "reached")?, get(&found, "last")?);
    let due = next(client, query, (reached, last), limit).await?;
    let finished_at = (due.len() < limit as usize).then_some(now);
    let recovered = recovery.recovered + due.len() as u64;
    // Their schedule begins anew: who could not take them may be overrun by all of them coming at once.
    let sql = "WITH again AS (
             UPDATE delivery SET state = 'pending', manual = attempts, finished_at = NULL, next_attempt_at = $2,
                 scheduled_from = $2
             WHERE k = ANY($1))
         UPDATE recovery SET reached = $4, recovered = $5, finished_at = $6 WHERE id = $3";
    let parameters: [Parameter<'_>; 6] = [
        &due,
        &now.0,
        &recovery.recovery_id.0,
        due.last().unwrap_or(&last),
        &recovered.cast_signed(),
        &finished_at.map(|at| at.0),
    ];
    execute(client, sql, &parameters).await?;
    Ok(Some(Recovery { recovered, finished_at, ..recovery }))
}

async fn next(client: &Client, query: DeliveryQuery, (reached, last): (i64, i64), limit: u32) -> Done<Vec<i64>> {
    let mut sql = Sql::new("SELECT k FROM delivery WHERE state IN ('failed', 'cancelled', 'skipped') AND NOT erased");
    sql.with("AND k > ?", reached);
    sql.with("AND k <= ?", last);
    narrow(&mut sql, query);
    sql.with("ORDER BY k LIMIT ? FOR UPDATE", i64::from(limit));
    all(client, &sql.text, &sql.parameters()).await?.iter().map(|row| get(row, "k")).collect()
}

fn recovery(row: &Row) -> Done<Recovery> {
    Ok(Recovery {
        recovery_id: RecoveryId(uuid(row, "id")?),
        recovered: get::<i64>(row, "recovered")?.unsigned_abs(),
        created_at: time(row, "created_at")?,
        finished_at: optional_time(row, "finished_at")?,
    })
}
