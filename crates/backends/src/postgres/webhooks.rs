//! Webhook deliveries in PostgreSQL.
//!
//! Several servers send at once. Each looks for what is due without holding anything, and then takes it with a single
//! statement, which passes over what another is just taking: no server holds up another, even one that stops in between.

use async_trait::async_trait;
use threadyard_core::{
    deliveries::Trigger,
    ids::RunId,
    storage::Result,
    time::Timestamp,
    webhooks::{
        AttemptResult, ClaimDeliveries, ClaimedDeliveries, ClaimedDelivery, GivenUp, LeftAlone, NextStep, Overdue,
        Waiting, Webhooks,
    },
};
use tokio_postgres::Row;

use super::{
    Client, PostgresStorage,
    due::{self, Chosen},
    failures::Done,
    lane_key,
    rows::{Parameter, Text, all, count, escaped, execute, first, get, string, time, uuid},
};
use crate::{
    cipher::{Cipher, Place},
    headers,
};

/// So many deliveries are settled at once when none is to be sent any more.
const SKIPPED: i64 = 5_000;

#[async_trait]
impl Webhooks for PostgresStorage {
    async fn claim_deliveries(&self, claim: ClaimDeliveries) -> Result<ClaimedDeliveries> {
        let chosen = due::choose(&self.client().await?, &claim).await?;
        if chosen.deliveries.is_empty() {
            return Ok(ClaimedDeliveries { next_due: chosen.next_due, more: chosen.more, ..Default::default() });
        }
        self.at_once((claim, chosen), |client, (claim, chosen)| Box::pin(take(client, claim, chosen))).await
    }

    async fn record_attempt(&self, result: AttemptResult) -> Result<bool> {
        let key = lane_key(&result.id);
        self.lanes.write_at_once(key, result, |client, result| Box::pin(record(client, result))).await
    }

    async fn skip_deliveries(&self, now: Timestamp) -> Result<u64> {
        let mut skipped = 0;
        loop {
            let some = self.at_once(now, |client, now| Box::pin(skip(client, *now))).await?;
            if some == 0 {
                return Ok(skipped);
            }
            skipped += some;
        }
    }

    async fn give_up_deliveries(&self, overdue: Overdue, limit: u32) -> Result<Vec<GivenUp>> {
        self.at_once((overdue, limit), |client, (overdue, limit)| Box::pin(give_up(client, *overdue, *limit))).await
    }

    async fn waiting(&self) -> Result<Vec<Waiting>> {
        let sql = "SELECT origin, count(*) AS deliveries, min(next_attempt_at) AS due FROM delivery
             WHERE state = 'pending' GROUP BY origin ORDER BY origin";
        let rows = all(&self.client().await?, sql, &[]).await?;
        let waiting = |row: &Row| {
            let deliveries = get::<i64>(row, "deliveries")?.unsigned_abs();
            Ok(Waiting { origin: string(row, "origin")?, deliveries, due: time(row, "due")? })
        };
        Ok(rows.iter().map(waiting).collect::<Done<_>>()?)
    }

    async fn left_alone(&self, now: Timestamp) -> Result<Vec<LeftAlone>> {
        self.at_once(now, |client, now| {
            Box::pin(async move {
                let sql = "WITH over AS (DELETE FROM destination WHERE not_before <= $1)
                     SELECT origin, not_before FROM destination WHERE not_before > $1 ORDER BY origin";
                let rows = all(client, sql, &[&now.0]).await?;
                let left_alone =
                    |row: &Row| Ok(LeftAlone { origin: string(row, "origin")?, not_before: time(row, "not_before")? });
                rows.iter().map(left_alone).collect()
            })
        })
        .await
    }
}

/// Leases what was chosen, as far as it is still due and nobody else is at it, and notes that an attempt begins. While a
/// delivery is on its way, `next_attempt_at` is when its lease ends: whoever holds it is then presumed dead.
///
/// What came of an earlier attempt that is still noted as begun, nobody knows. It does not use up the schedule, since it
/// was not the receiver that failed.
const TAKE: &str = "WITH due AS (
        SELECT delivery.k, nth, attempts, lease_id IS NOT NULL AS abandoned FROM unnest($1::bigint[]) WITH ORDINALITY AS chosen (k, nth)
        JOIN delivery ON delivery.k = chosen.k WHERE state = 'pending' AND next_attempt_at <= $2
        ORDER BY nth FOR UPDATE OF delivery SKIP LOCKED),
    sized AS (
        SELECT *, sum(octet_length(body)) OVER (ORDER BY nth) - octet_length(body) AS before
        FROM (SELECT due.*, coalesce(body, '') AS body FROM due LEFT JOIN delivery_body ON delivery = k) AS with_body),
    taken AS (SELECT * FROM sized WHERE before < $3),
    abandoned AS MATERIALIZED (SELECT k, attempts FROM taken WHERE abandoned),
    lost AS (
        UPDATE delivery_attempt SET state = 'unknown' FROM abandoned
        WHERE delivery = k AND n = attempts AND state = 'started'
        RETURNING delivery, \"trigger\" = 'schedule' AS scheduled),
    losses AS (
        SELECT delivery, count(*) AS lost, count(*) FILTER (WHERE scheduled) AS scheduled FROM lost GROUP BY delivery),
    begun AS (
        UPDATE delivery SET attempts = delivery.attempts + 1, lease_id = $4, next_attempt_at = $5,
            manual = manual + (resent_from IS NOT NULL)::integer + coalesce(scheduled, 0)::integer
        FROM taken LEFT JOIN losses ON losses.delivery = taken.k WHERE delivery.k = taken.k
        RETURNING delivery.k, nth, id, run_id, event, created_at, url, origin, headers, maker, body, delivery.attempts, manual,
            resent_from IS NOT NULL AS resent, coalesce(lost, 0) AS lost),
    noted AS (
        INSERT INTO delivery_attempt (delivery, n, \"trigger\", state, started_at)
        SELECT k, attempts, CASE WHEN resent THEN 'resend' ELSE 'schedule' END, 'started', $2 FROM begun)
    SELECT *, (SELECT count(*) FROM due) AS held FROM begun ORDER BY nth";

async fn take(client: &Client, claim: &ClaimDeliveries, chosen: &Chosen) -> Done<ClaimedDeliveries> {
    let bytes = i64::try_from(claim.bytes).unwrap_or(i64::MAX);
    let parameters: [Parameter<'_>; 5] = [&chosen.deliveries, &claim.now.0, &bytes, &claim.lease_id.0, &claim.until.0];
    let rows = all(client, TAKE, &parameters).await?;
    let held = rows.first().map(|row| get::<i64>(row, "held")).transpose()?.unwrap_or_default();
    // What another server was faster to take may have stood before something that is still there.
    let overtaken = held.unsigned_abs() < chosen.deliveries.len() as u64;
    let mut claimed = ClaimedDeliveries {
        next_due: chosen.next_due,
        more: chosen.more.clone().or_else(|| overtaken.then(|| claim.from.clone())),
        ..Default::default()
    };
    for row in &rows {
        claimed.lost += get::<i64>(row, "lost")?.unsigned_abs();
        claimed.deliveries.push(delivery(client.cipher(), row, claim)?);
    }
    if !rows.is_empty() {
        claimed.next_due = claimed.next_due.into_iter().chain([claim.until]).min();
    }
    Ok(claimed)
}

fn delivery(cipher: &Cipher, row: &Row, claim: &ClaimDeliveries) -> Done<ClaimedDelivery> {
    let id = string(row, "id")?;
    let url = cipher.open_text(Place::Delivery("url", &id), string(row, "url")?)?;
    let headers: Option<String> = get(row, "headers")?;
    let headers = headers.map(|stored| cipher.open_text(Place::Delivery("headers", &id), stored)).transpose()?;
    let maker: Option<String> = get(row, "maker")?;
    let maker = maker.map(|stored| cipher.open_text(Place::Delivery("maker", &id), stored)).transpose()?;
    let body = cipher.open_text(Place::Body(&id), get(row, "body")?)?;
    let attempt = count(row, "attempts")?;
    Ok(ClaimedDelivery {
        run_id: RunId(uuid(row, "run_id")?),
        event: string(row, "event")?,
        created_at: time(row, "created_at")?,
        url,
        origin: string(row, "origin")?,
        headers: headers::whole(headers.as_deref())?,
        maker: headers::whole_maker(maker.as_deref())?,
        body: body.into(),
        id,
        attempt,
        scheduled: attempt.saturating_sub(count(row, "manual")?),
        trigger: if get(row, "resent")? { Trigger::Resend } else { Trigger::Schedule },
        lease_id: claim.lease_id,
    })
}

/// Records what an attempt came to. When another sender has taken the delivery over, or somebody has stopped it, what came
/// of it is not known to anybody.
async fn record(client: &Client, result: &AttemptResult) -> Done<bool> {
    let (state, next_attempt_at) = match result.next {
        NextStep::Delivered => (Some("delivered"), None),
        NextStep::RetryAt(again) => (Some("pending"), Some(again.0)),
        NextStep::Failed => (Some("failed"), None),
        NextStep::AsBefore => (None, None),
    };
    let sql = "WITH recorded AS (
             UPDATE delivery SET state = coalesce($3, resent_from, state),
                 next_attempt_at = coalesce($4, resume_at, $5),
                 finished_at = CASE coalesce($3, resent_from, state) WHEN 'pending' THEN NULL ELSE $5 END,
                 last_status = $6, last_failure = $7, lease_id = NULL, resent_from = NULL, resume_at = NULL
             WHERE id = $1 AND lease_id = $2 RETURNING k, origin),
         asked AS (
             INSERT INTO destination (origin, not_before) SELECT origin, $8 FROM recorded WHERE $8::bigint IS NOT NULL
             ON CONFLICT (origin) DO UPDATE SET not_before = greatest(destination.not_before, excluded.not_before)),
         attempt AS (
             UPDATE delivery_attempt SET state = 'done', ended_at = $5, status = $6, failure = $7 FROM recorded
             WHERE delivery = k AND n = $9)
         SELECT k FROM recorded";
    let parameters: [Parameter<'_>; 9] = [
        &escaped(&result.id),
        &result.lease_id.0,
        &state,
        &next_attempt_at,
        &result.at.0,
        &result.status.map(i32::from),
        &result.failure.as_deref().map(Text),
        &result.not_before.map(|at| at.0),
        &result.attempt.cast_signed(),
    ];
    Ok(first(client, sql, &parameters).await?.is_some())
}

/// Settles some of what is to be sent. What somebody asked to be sent again is as it was before.
async fn skip(client: &Client, now: Timestamp) -> Done<u64> {
    let sql = "WITH open AS (SELECT k FROM delivery WHERE state = 'pending' ORDER BY k LIMIT $2 FOR UPDATE),
         unheard AS (
             UPDATE delivery_attempt SET state = 'unknown' FROM open WHERE delivery = k AND state = 'started')
         UPDATE delivery SET state = coalesce(nullif(resent_from, 'pending'), 'skipped'), finished_at = $1,
             lease_id = NULL, resent_from = NULL, resume_at = NULL
         FROM open WHERE delivery.k = open.k";
    execute(client, sql, &[&now.0, &SKIPPED]).await
}

/// Settles what waits behind receivers that could not be reached in all the time there was.
async fn give_up(client: &Client, overdue: Overdue, limit: u32) -> Done<Vec<GivenUp>> {
    let sql = "WITH over AS (
             SELECT k FROM delivery WHERE state = 'pending' AND scheduled_from < $3 AND lease_id IS NULL
             ORDER BY scheduled_from LIMIT $4 FOR UPDATE SKIP LOCKED)
         UPDATE delivery SET state = coalesce(nullif(resent_from, 'pending'), 'failed'), finished_at = $1,
             last_failure = $2, resent_from = NULL, resume_at = NULL
         FROM over WHERE delivery.k = over.k RETURNING id, event, state";
    let why = "the receiver could not be reached in all the time there was";
    let parameters: [Parameter<'_>; 4] = [&overdue.now.0, &why, &overdue.begun_before.0, &i64::from(limit)];
    let mut given_up = Vec::new();
    for row in all(client, sql, &parameters).await? {
        if get::<&str>(&row, "state")? == "failed" {
            given_up.push(GivenUp { id: string(&row, "id")?, event: string(&row, "event")? });
        }
    }
    Ok(given_up)
}
