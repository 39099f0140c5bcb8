//! Choosing which deliveries are to be sent next: the longest due first, as far as their receivers have room.

use threadyard_core::{time::Timestamp, webhooks::ClaimDeliveries};
use tokio_postgres::Row;

use super::{
    Client,
    failures::Done,
    rows::{Parameter, all, both, escaped, get, optional_time, string},
};
use crate::rooms::{Due, pick};

/// What was chosen.
pub(super) struct Chosen {
    /// The deliveries, the longest due first.
    pub(super) deliveries: Vec<i64>,
    /// When the next one becomes due that is not due yet.
    pub(super) next_due: Option<Timestamp>,
    /// If there may be more, where to go on.
    pub(super) more: Option<String>,
}

/// So many origins are looked at at once.
const LOOKED_AT: i64 = 200;

const DUE: &str = "SELECT k, next_attempt_at, origin, attempts > 0 AS retry FROM delivery
    WHERE state = 'pending' AND next_attempt_at <= $1 ORDER BY next_attempt_at, k LIMIT $2";
const NEXT_DUE: &str = "SELECT min(next_attempt_at) AS next FROM delivery
    WHERE state = 'pending' AND next_attempt_at > $1";

/// The origins from one on, in the order of their names, each with what is due there as far as it has room. The last one
/// is not looked at. What is new must not wait behind retries, of all origins, that have no room.
///
/// Origins and times are compared together, since the planner would rather read everything that is due where most of it is
/// of one origin. It knows no room, and takes an unknown limit for a tenth of everything: the limits within tell it better.
const AT_ORIGINS: &str = "WITH RECURSIVE place AS (
        SELECT 1::bigint AS nth, $1::text COLLATE \"C\" AS origin
        UNION ALL
        SELECT nth + 1, (
            SELECT min(delivery.origin) FROM delivery WHERE state = 'pending' AND delivery.origin > place.origin)
        FROM place WHERE place.origin IS NOT NULL AND nth <= $2),
    roomy AS (
        SELECT nth, place.origin, CASE WHEN nth <= $2 THEN coalesce(room, $3) ELSE 0 END AS room
        FROM place LEFT JOIN unnest($4::text[], $5::bigint[]) AS known (origin, room) ON known.origin = place.origin
        WHERE place.origin IS NOT NULL)
    SELECT nth, roomy.origin, k, next_attempt_at, retry FROM roomy LEFT JOIN LATERAL (
        SELECT * FROM (
            SELECT k, next_attempt_at, attempts > 0 AS retry FROM delivery
            WHERE state = 'pending' AND (delivery.origin, next_attempt_at) >= (roomy.origin, $7)
                AND (delivery.origin, next_attempt_at) <= (roomy.origin, $6)
            ORDER BY delivery.origin, next_attempt_at, k LIMIT 1000) AS oldest LIMIT roomy.room) AS due ON true
    UNION
    SELECT nth, roomy.origin, k, next_attempt_at, false FROM roomy, LATERAL (
        SELECT * FROM (
            SELECT k, next_attempt_at FROM delivery
            WHERE state = 'pending' AND attempts = 0 AND (delivery.origin, next_attempt_at) >= (roomy.origin, $7)
                AND (delivery.origin, next_attempt_at) <= (roomy.origin, $6)
            ORDER BY delivery.origin, next_attempt_at, k LIMIT 1000) AS oldest LIMIT roomy.room) AS new";

pub(super) async fn choose(client: &Client, claim: &ClaimDeliveries) -> Done<Chosen> {
    let limit = i64::from(claim.limit);
    let (rows, next) = both(client, (DUE, &[&claim.now.0, &limit]), (NEXT_DUE, &[&claim.now.0])).await?;
    let next_due = next.first().map(|row| optional_time(row, "next")).transpose()?.flatten();
    let mut found = rows.iter().map(due).collect::<Done<Vec<_>>>()?;
    let deliveries = pick(&found, claim);
    if rows.len() < claim.limit as usize {
        return Ok(Chosen { deliveries, next_due, more: None });
    }
    if deliveries.len() == claim.limit as usize {
        return Ok(Chosen { deliveries, next_due, more: Some(claim.from.clone()) });
    }
    // Some origin has many due for long, and no room: others may be behind it.
    let more = look_at_origins(client, claim, &mut found).await?;
    found.sort_by_key(|due| (due.at, due.k));
    found.dedup_by_key(|due| due.k);
    Ok(Chosen { deliveries: pick(&found, claim), next_due, more })
}

/// Finds what is due at each of the next origins. If there are more of them, where to go on.
async fn look_at_origins(client: &Client, claim: &ClaimDeliveries, found: &mut Vec<Due>) -> Done<Option<String>> {
    let origins: Vec<_> = claim.rooms.keys().map(|origin| escaped(origin)).collect();
    let rooms: Vec<_> = claim.rooms.values().map(|room| i64::from(*room)).collect();
    let per_origin = i64::from(claim.per_origin);
    // No text comes before the empty one, which stands for deliveries without an origin.
    let from = escaped(&claim.from);
    let parameters: [Parameter<'_>; 7] = [&from, &LOOKED_AT, &per_origin, &origins, &rooms, &claim.now.0, &i64::MIN];
    let mut more = None;
    for row in all(client, AT_ORIGINS, &parameters).await? {
        if get::<i64>(&row, "nth")? > LOOKED_AT {
            more = Some(string(&row, "origin")?);
        } else if get::<Option<i64>>(&row, "k")?.is_some() {
            found.push(due(&row)?);
        }
    }
    Ok(more)
}

fn due(row: &Row) -> Done<Due> {
    Ok(Due {
        k: get(row, "k")?,
        at: get(row, "next_attempt_at")?,
        origin: string(row, "origin")?,
        retry: get(row, "retry")?,
    })
}
