//! Recoveries in SQLite: having many deliveries sent again, some at a time.

use rusqlite::{Row, params};
use threadyard_core::{
    deliveries::{DeliveryQuery, Recovery},
    ids::RecoveryId,
    time::Timestamp,
};

use super::{
    Connection, Done,
    deliveries::narrow,
    rows::{all, first, key, time, uuid},
    sql::Sql,
};

pub(super) fn begin(connection: &Connection, id: RecoveryId, query: &DeliveryQuery, now: Timestamp) -> Done<()> {
    connection
        .prepare_cached(
            "INSERT INTO recovery (id, query, last, created_at)
             SELECT ?1, ?2, coalesce((SELECT max(k) FROM delivery), 0), ?3",
        )?
        .execute(params![key(id), serde_json::to_string(query)?, now.0])?;
    Ok(())
}

pub(super) fn find(connection: &Connection, id: RecoveryId) -> Done<Option<Recovery>> {
    first(&mut connection.prepare_cached("SELECT * FROM recovery WHERE id = ?1")?, &[&key(id)], recovery)
}

/// Makes the next deliveries due, and moves on in the same transaction.
pub(super) fn go_on(connection: &Connection, limit: u32, now: Timestamp) -> Done<Option<Recovery>> {
    let mut open = connection.prepare_cached("SELECT * FROM recovery WHERE finished_at IS NULL ORDER BY k LIMIT 1")?;
    let found = first(&mut open, &[], |row| {
        let query: DeliveryQuery = serde_json::from_str(&row.get::<_, String>("query")?)?;
        Ok((recovery(row)?, query, row.get::<_, i64>("reached")?, row.get::<_, i64>("last")?))
    })?;
    let Some((recovery, query, reached, last)) = found else { return Ok(None) };
    let due = next(connection, query, (reached, last), limit)?;
    // Their schedule begins anew: who could not take them may be overrun by all of them coming at once.
    let mut again = connection.prepare_cached(
        "UPDATE delivery SET state = 'pending', manual = attempts, finished_at = NULL, next_attempt_at = ?2,
             scheduled_from = ?2
         WHERE k = ?1",
    )?;
    for k in &due {
        again.execute(params![k, now.0])?;
    }
    let finished_at = (due.len() < limit as usize).then_some(now);
    let recovered = recovery.recovered + due.len() as u64;
    connection
        .prepare_cached("UPDATE recovery SET reached = ?2, recovered = ?3, finished_at = ?4 WHERE id = ?1")?
        .execute(params![
            key(recovery.recovery_id),
            due.last().unwrap_or(&last),
            recovered.cast_signed(),
            finished_at.map(|at| at.0),
        ])?;
    Ok(Some(Recovery { recovered, finished_at, ..recovery }))
}

fn next(connection: &Connection, query: DeliveryQuery, (reached, last): (i64, i64), limit: u32) -> Done<Vec<i64>> {
    let mut sql = Sql::new("SELECT k FROM delivery WHERE state IN ('failed', 'cancelled', 'skipped') AND NOT erased");
    sql.with("AND k > ?", reached);
    sql.with("AND k <= ?", last);
    narrow(&mut sql, query);
    sql.with("ORDER BY k LIMIT ?", limit);
    all(&mut connection.prepare_cached(&sql.text)?, &sql.parameters(), |row| Ok(row.get(0)?))
}

fn recovery(row: &Row<'_>) -> Done<Recovery> {
    Ok(Recovery {
        recovery_id: RecoveryId(uuid(row, "id")?),
        recovered: row.get::<_, i64>("recovered")?.unsigned_abs(),
        created_at: time(row, "created_at")?,
        finished_at: row.get::<_, Option<i64>>("finished_at")?.map(Timestamp),
    })
}
