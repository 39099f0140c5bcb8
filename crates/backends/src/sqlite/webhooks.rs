//! Webhook deliveries in SQLite.

use async_trait::async_trait;
use rusqlite::{Row, params};
use threadyard_core::{
    deliveries::Trigger,
    ids::{LeaseId, RunId},
    storage::Result,
    time::Timestamp,
    webhooks::{
        AttemptResult, ClaimDeliveries, ClaimedDeliveries, ClaimedDelivery, GivenUp, LeftAlone, NextStep, Overdue,
        Waiting, Webhooks,
    },
};

use super::{
    Connection, Done, SqliteStorage,
    rows::{all, first, key, name, time, uuid},
};
use crate::{
    cipher::Place,
    headers,
    rooms::{Due, pick, room},
};

#[async_trait]
impl Webhooks for SqliteStorage {
    async fn claim_deliveries(&self, claim: ClaimDeliveries) -> Result<ClaimedDeliveries> {
        self.writer.write(move |connection| take(connection, &claim)).await
    }

    async fn record_attempt(&self, result: AttemptResult) -> Result<bool> {
        self.writer.write(move |connection| record(connection, &result)).await
    }

    async fn skip_deliveries(&self, now: Timestamp) -> Result<u64> {
        self.writer.write(move |connection| skip(connection, now)).await
    }

    async fn give_up_deliveries(&self, overdue: Overdue, limit: u32) -> Result<Vec<GivenUp>> {
        self.writer.write(move |connection| give_up(connection, &overdue, limit)).await
    }

    async fn waiting(&self) -> Result<Vec<Waiting>> {
        self.readers
            .read(move |connection| {
                let mut query = connection.prepare_cached(WAITING)?;
                all(&mut query, &[], |row| {
                    let deliveries = row.get::<_, i64>(1)?.unsigned_abs();
                    Ok(Waiting { origin: row.get(0)?, deliveries, due: Timestamp(row.get(2)?) })
                })
            })
            .await
    }

    async fn left_alone(&self, now: Timestamp) -> Result<Vec<LeftAlone>> {
        self.writer
            .write(move |connection| {
                connection.prepare_cached("DELETE FROM destination WHERE not_before <= ?1")?.execute([now.0])?;
                let mut query = connection.prepare_cached("SELECT origin, not_before FROM destination")?;
                all(&mut query, &[], |row| Ok(LeftAlone { origin: row.get(0)?, not_before: Timestamp(row.get(1)?) }))
            })
            .await
    }
}

/// While a delivery is on its way, `next_attempt_at` is when its lease ends: whoever holds it is then presumed dead.
fn take(connection: &Connection, claim: &ClaimDeliveries) -> Done<ClaimedDeliveries> {
    let mut update = connection.prepare_cached(
        "UPDATE delivery SET attempts = attempts + 1, manual = manual + (resent_from IS NOT NULL), lease_id = ?1,
             next_attempt_at = ?2
         WHERE k = ?3 RETURNING id, run_id, event, created_at, url, origin, attempts, manual, resent_from, headers,
             maker",
    )?;
    let mut body = connection.prepare_cached("SELECT body FROM delivery_body WHERE delivery = ?1")?;
    let (mut deliveries, mut lost, mut bytes) = (Vec::new(), 0, 0);
    let (due, more) = due(connection, claim)?;
    for k in due {
        if bytes >= claim.bytes {
            break;
        }
        let body: String = first(&mut body, &[&k], |row| Ok(row.get(0)?))?.unwrap_or_default();
        bytes += body.len();
        let lease = key(claim.lease_id);
        let taken =
            first(&mut update, &[&lease, &claim.until.0, &k], |row| delivery(connection, row, body, claim.lease_id))?;
        if let Some(mut taken) = taken {
            let gone = begin(connection, k, &taken, claim.now)?;
            taken.scheduled = taken.scheduled.saturating_sub(gone.scheduled);
            lost += gone.all;
            deliveries.push(taken);
        }
    }
    let mut query = connection.prepare_cached(NEXT_DUE)?;
    let next_due: Option<i64> = query.query_row([claim.now.0], |row| row.get(0))?;
    Ok(ClaimedDeliveries { deliveries, next_due: next_due.map(Timestamp), lost, more })
}

// Without being told, the planner prefers the index on states, and reads every row that waits.
pub(super) const DUE: &str = "SELECT k, next_attempt_at, origin, attempts > 0
    FROM delivery INDEXED BY delivery_due
    WHERE state = 'pending' AND next_attempt_at <= ?1 ORDER BY next_attempt_at, k LIMIT ?2";
pub(super) const DUE_AT_ORIGIN: &str = "SELECT k, next_attempt_at, origin, attempts > 0
    FROM delivery INDEXED BY delivery_origin_due
    WHERE state = 'pending' AND origin = ?1 AND next_attempt_at <= ?2 ORDER BY next_attempt_at, k LIMIT ?3";
pub(super) const NEXT_DUE: &str = "SELECT min(next_attempt_at) FROM delivery INDEXED BY delivery_due
    WHERE state = 'pending' AND next_attempt_at > ?1";
pub(super) const NEW_AT_ORIGIN: &str = "SELECT k, next_attempt_at, origin, attempts > 0
    FROM delivery INDEXED BY delivery_new
    WHERE state = 'pending' AND attempts = 0 AND origin = ?1 AND next_attempt_at <= ?2
    ORDER BY next_attempt_at, k LIMIT ?3";
pub(super) const NEXT_ORIGIN: &str = "SELECT min(origin) FROM delivery INDEXED BY delivery_origin_due
    WHERE state = 'pending' AND origin > ?1";
pub(super) const WAITING: &str = "SELECT origin, count(*), min(next_attempt_at)
    FROM delivery INDEXED BY delivery_origin_due WHERE state = 'pending' GROUP BY origin";

/// So many origins are looked at in one transaction, since nobody else writes meanwhile.
const LOOKED_AT: usize = 200;

/// The deliveries to be taken: the longest due first, as far as their origins have room. If there may be more, where to
/// go on.
fn due(connection: &Connection, claim: &ClaimDeliveries) -> Done<(Vec<i64>, Option<String>)> {
    let mut query = connection.prepare_cached(DUE)?;
    let mut found = all(&mut query, &[&claim.now.0, &claim.limit], |row| Ok(due_row(row)?))?;
    let seen_all = found.len() < claim.limit as usize;
    let picked = pick(&found, claim);
    if seen_all {
        return Ok((picked, None));
    }
    if picked.len() == claim.limit as usize {
        return Ok((picked, Some(claim.from.clone())));
    }
    // Some origin has many due for long, and no room: others may be behind it.
    let mut next = connection.prepare_cached(NEXT_ORIGIN)?;
    let mut of_origin = connection.prepare_cached(DUE_AT_ORIGIN)?;
    let mut new_of_origin = connection.prepare_cached(NEW_AT_ORIGIN)?;
    // No text comes before the empty one, which stands for deliveries without an origin.
    let (mut origin, mut looked_at) = (Some(claim.from.clone()), 0);
    while let Some(current) = origin.take_if(|_| looked_at < LOOKED_AT) {
        let room = room(claim, &current);
        if room > 0 {
            let due = all(&mut of_origin, &[&current, &claim.now.0, &room], |row| Ok(due_row(row)?))?;
            // What is new must not wait behind retries, of all origins, that have no room.
            if due.len() == room as usize && due.iter().any(|due| due.retry) {
                found.extend(all(&mut new_of_origin, &[&current, &claim.now.0, &room], |row| Ok(due_row(row)?))?);
            }
            found.extend(due);
        }
        origin = next.query_row([&current], |row| row.get(0))?;
        looked_at += 1;
    }
    found.sort_by_key(|due| (due.at, due.k));
    found.dedup_by_key(|due| due.k);
    Ok((pick(&found, claim), origin))
}

fn due_row(row: &Row<'_>) -> rusqlite::Result<Due> {
    Ok(Due { k: row.get(0)?, at: row.get(1)?, origin: row.get(2)?, retry: row.get(3)? })
}

/// Notes that an attempt begins. What came of an earlier one that is still noted as begun, nobody knows; how many there
/// were. They don't use up the schedule, since it was not the receiver that failed.
fn begin(connection: &Connection, k: i64, delivery: &ClaimedDelivery, now: Timestamp) -> Done<Lost> {
    let mut give_up_on = connection.prepare_cached(
        "UPDATE delivery_attempt SET state = 'unknown' WHERE delivery = ?1 AND state = 'started'
         RETURNING \"trigger\" = 'schedule'",
    )?;
    let mut lost = Lost::default();
    for of_the_schedule in all(&mut give_up_on, &[&k], |row| Ok(row.get::<_, bool>(0)?))? {
        lost.all += 1;
        lost.scheduled += u32::from(of_the_schedule);
    }
    if lost.scheduled > 0 {
        connection
            .prepare_cached("UPDATE delivery SET manual = manual + ?2 WHERE k = ?1")?
            .execute(params![k, lost.scheduled])?;
    }
    connection
        .prepare_cached(
            "INSERT INTO delivery_attempt (delivery, n, \"trigger\", state, started_at) VALUES (?1, ?2, ?3, 'started', ?4)",
        )?
        .execute(params![k, delivery.attempt, name(&delivery.trigger)?, now.0])?;
    Ok(lost)
}

/// Attempts whose sender died, and those of them that the schedule had asked for.
#[derive(Default)]
struct Lost {
    all: u64,
    scheduled: u32,
}

fn delivery(connection: &Connection, row: &Row<'_>, body: String, lease_id: LeaseId) -> Done<ClaimedDelivery> {
    let id: String = row.get("id")?;
    let opened = |place, stored| connection.cipher().open_text(place, stored);
    let body = opened(Place::Body(&id), body)?.into();
    let headers: Option<String> = row.get("headers")?;
    let headers = headers.map(|stored| opened(Place::Delivery("headers", &id), stored)).transpose()?;
    let maker: Option<String> = row.get("maker")?;
    let maker = maker.map(|stored| opened(Place::Delivery("maker", &id), stored)).transpose()?;
    let url = opened(Place::Delivery("url", &id), row.get("url")?)?;
    let attempt: u32 = row.get("attempts")?;
    let resent = row.get::<_, Option<String>>("resent_from")?.is_some();
    Ok(ClaimedDelivery {
        run_id: RunId(uuid(row, "run_id")?),
        event: row.get("event")?,
        created_at: time(row, "created_at")?,
        url,
        origin: row.get("origin")?,
        headers: headers::whole(headers.as_deref())?,
        maker: headers::whole_maker(maker.as_deref())?,
        id,
        body,
        attempt,
        scheduled: attempt.saturating_sub(row.get("manual")?),
        trigger: if resent { Trigger::Resend } else { Trigger::Schedule },
        lease_id,
    })
}

fn record(connection: &Connection, result: &AttemptResult) -> Done<bool> {
    let (state, next_attempt_at) = match result.next {
        NextStep::Delivered => (Some("delivered"), None),
        NextStep::RetryAt(again) => (Some("pending"), Some(again.0)),
        NextStep::Failed => (Some("failed"), None),
        NextStep::AsBefore => (None, None),
    };
    let mut update = connection.prepare_cached(
        "UPDATE delivery SET state = coalesce(?3, resent_from, state), next_attempt_at = coalesce(?4, resume_at, ?5),
             finished_at = CASE coalesce(?3, resent_from, state) WHEN 'pending' THEN NULL ELSE ?5 END,
             last_status = ?6, last_failure = ?7, lease_id = NULL, resent_from = NULL, resume_at = NULL
         WHERE id = ?1 AND lease_id = ?2 RETURNING k, origin",
    )?;
    let recorded = first(
        &mut update,
        &[&result.id, &key(result.lease_id), &state, &next_attempt_at, &result.at.0, &result.status, &result.failure],
        |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
    )?;
    // Another sender has taken it over, or somebody has stopped it: what came of this attempt is not known to anybody.
    let Some((k, origin)) = recorded else { return Ok(false) };
    if let Some(not_before) = result.not_before {
        connection
            .prepare_cached(
                "INSERT INTO destination (origin, not_before) VALUES (?1, ?2)
                 ON CONFLICT DO UPDATE SET not_before = max(not_before, excluded.not_before)",
            )?
            .execute(params![origin, not_before.0])?;
    }
    connection
        .prepare_cached(
            "UPDATE delivery_attempt SET state = 'done', ended_at = ?3, status = ?4, failure = ?5 WHERE delivery = ?1 AND n = ?2",
        )?
        .execute(params![k, result.attempt, result.at.0, result.status, result.failure])?;
    Ok(true)
}

/// Settles everything that is to be sent. What somebody asked to be sent again is as it was before.
fn skip(connection: &Connection, now: Timestamp) -> Done<u64> {
    let mut open = connection.prepare_cached("SELECT 1 FROM delivery WHERE state = 'pending'")?;
    if !open.exists([])? {
        return Ok(0);
    }
    connection
        .prepare_cached(
            "UPDATE delivery_attempt SET state = 'unknown'
             WHERE state = 'started' AND delivery IN (SELECT k FROM delivery WHERE state = 'pending')",
        )?
        .execute([])?;
    let skipped = connection
        .prepare_cached(
            "UPDATE delivery SET state = coalesce(nullif(resent_from, 'pending'), 'skipped'), finished_at = ?1,
                 lease_id = NULL, resent_from = NULL, resume_at = NULL
             WHERE state = 'pending'",
        )?
        .execute([now.0])?;
    Ok(skipped as u64)
}

/// Settles what waits behind receivers that could not be reached in all the time there was.
fn give_up(connection: &Connection, overdue: &Overdue, limit: u32) -> Done<Vec<GivenUp>> {
    let mut update = connection.prepare_cached(
        "UPDATE delivery SET state = coalesce(nullif(resent_from, 'pending'), 'failed'), finished_at = ?1,
             last_failure = ?2, resent_from = NULL, resume_at = NULL
         WHERE k IN (
             SELECT k FROM delivery INDEXED BY delivery_scheduled
             WHERE state = 'pending' AND scheduled_from < ?3 AND lease_id IS NULL LIMIT ?4)
         RETURNING id, event, state",
    )?;
    let settled = all(
        &mut update,
        &[
            &overdue.now.0,
            &"the receiver could not be reached in all the time there was",
            &overdue.begun_before.0,
            &limit,
        ],
        |row| Ok((GivenUp { id: row.get(0)?, event: row.get(1)? }, row.get::<_, String>(2)?)),
    )?;
    Ok(settled.into_iter().filter(|(_, state)| state == "failed").map(|(given_up, _)| given_up).collect())
}
