//! What sending costs does not grow with what waits.

use std::collections::BTreeMap;

use threadyard_backends::PostgresStorage;
use threadyard_core::{
    ids::LeaseId,
    webhooks::{AttemptResult, ClaimDeliveries, ClaimedDelivery, NextStep, Overdue, Webhooks},
};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{at, database::Database};

const WAITING: i64 = 20_000;

/// Deliveries that have been due for long, to so many origins, every second of which was tried before.
async fn fill(client: &Client, origins: i64) {
    let sql = format!(
        "INSERT INTO delivery (id, run_id, thread_id, event, url, shown_url, origin, state, attempts, next_attempt_at,
             scheduled_from, created_at)
         SELECT 'msg_' || n, gen_random_uuid(), gen_random_uuid(), 'run.success', o, o, o, 'pending', n / {origins} % 2,
             {due} + n, {due}, {due}
         FROM generate_series(1, {WAITING}) AS n, LATERAL (SELECT 'https://' || n % {origins} || '.example' AS o) AS it;
         INSERT INTO delivery_body (delivery, body) SELECT k, repeat('x', 1000) FROM delivery;
         INSERT INTO delivery_attempt (delivery, n, \"trigger\", state, started_at)
         SELECT k, 1, 'schedule', 'done', created_at FROM delivery WHERE attempts = 1;
         VACUUM ANALYZE",
        due = at(-100).0,
    );
    for statement in sql.split(';') {
        client.batch_execute(statement).await.unwrap();
    }
}

/// How many rows were read, wherever their places were found.
async fn rows_read(client: &Client) -> i64 {
    let sql = "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname LIKE 'delivery%')::bigint
             + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname LIKE 'delivery%')::bigint";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

fn claim(n: u64, per_origin: u32) -> ClaimDeliveries {
    ClaimDeliveries {
        lease_id: LeaseId(Uuid::from_u64_pair(6, n)),
        limit: 64,
        bytes: usize::MAX,
        retries: 8,
        per_origin,
        rooms: BTreeMap::from([("https://1.example".into(), 0)]),
        from: String::new(),
        now: at(0),
        until: at(45),
    }
}

fn outcome(held: &ClaimedDelivery, again: bool) -> AttemptResult {
    AttemptResult {
        id: held.id.clone(),
        lease_id: held.lease_id,
        attempt: held.attempt,
        at: at(1),
        status: Some(200),
        failure: None,
        next: if again { NextStep::RetryAt(at(100)) } else { NextStep::Delivered },
        not_before: again.then(|| at(200)),
    }
}

#[tokio::test]
async fn choosing_and_settling_deliveries_reads_few_rows_however_many_wait() {
    for origins in [1, 10, 500] {
        let database = Database::new().await;
        fill(&database.client().await, origins).await;
        database.end_connections().await;
        let before = rows_read(&database.client().await).await;
        let storage = PostgresStorage::open(&database.config()).await.unwrap();
        let (mut claimed, mut looked_at) = (0, 0);
        // So often that plans are made which fit any parameters.
        for n in 0..12 {
            let found = storage.claim_deliveries(claim(n, 4)).await.unwrap();
            looked_at += origins.min(200) * 8 + 64;
            for held in found.deliveries {
                assert!(storage.record_attempt(outcome(&held, claimed % 2 == 0)).await.unwrap());
                claimed += 1;
            }
            let overdue = Overdue { begun_before: at(-200), now: at(0) };
            assert!(storage.give_up_deliveries(overdue, 100).await.unwrap().is_empty());
        }
        assert!(claimed >= 12 * 4, "{claimed}");
        drop(storage);
        database.end_connections().await;
        let read = rows_read(&database.client().await).await - before;
        assert!(read < 3 * looked_at + 30 * claimed, "{origins} origins: {read} rows for {claimed} deliveries");
    }
}
