//! Limits hold for all servers together, however many make and claim runs at the same time.

use threadyard_backends::PostgresStorage;
use threadyard_core::{
    ids::LeaseId,
    json::Object,
    limits::{Counted, PerOwner},
    runs::{ClaimRuns, CreatedRun, NewRun, QueueStats, Runs},
    testkit::new_run,
};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{at, concurrency::two, database::Database, run, thread};

fn counted(n: u64, pending: PerOwner) -> NewRun {
    let counted = Some(Counted { user: format!("user {}", n % 2), pending });
    NewRun { create_thread: Some(Object::new()), counted, ..new_run(run(n), thread(n), at(0)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_runs_wait_than_may_whoever_makes_them() {
    let database = Database::new().await;
    let servers = two(&database).await;
    let mut making = JoinSet::new();
    for n in 0..80 {
        let storage = servers[usize::try_from(n / 2 % 2).unwrap()].clone();
        let new = counted(n, PerOwner { user: Some(7), assistant: Some(12) });
        making.spawn(async move { matches!(storage.create_run(new).await.unwrap(), CreatedRun::Created { .. }) });
    }
    let made = making.join_all().await.into_iter().filter(|made| *made).count();
    let QueueStats { pending, .. } = servers[0].queue_stats(at(1)).await.unwrap();
    assert_eq!((made, pending), (12, 12));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_runs_of_a_user_wait_than_may_whoever_makes_them() {
    let database = Database::new().await;
    let servers = two(&database).await;
    let mut making = JoinSet::new();
    for n in 0..80 {
        let storage = servers[usize::try_from(n / 2 % 2).unwrap()].clone();
        // Where assistants are not counted, nothing else has these wait for each other.
        let new = counted(n, PerOwner { user: Some(7), assistant: None });
        making.spawn(async move { matches!(storage.create_run(new).await.unwrap(), CreatedRun::Created { .. }) });
    }
    let made = making.join_all().await.into_iter().filter(|made| *made).count();
    let QueueStats { pending, .. } = servers[0].queue_stats(at(1)).await.unwrap();
    assert_eq!((made, pending), (14, 14));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_runs_are_executed_than_may_whoever_claims_them() {
    let database = Database::new().await;
    let servers = two(&database).await;
    for n in 0..60 {
        servers[0].create_run(counted(n, PerOwner::default())).await.unwrap();
    }
    let mut claiming = JoinSet::new();
    for n in 0..20 {
        let storage = servers[usize::try_from(n % 2).unwrap()].clone();
        let lease_id = LeaseId(Uuid::from_u64_pair(4, n));
        let claim = ClaimRuns { lease_id, limit: 3, now: at(1), until: at(31) };
        let limits = PerOwner { user: Some(4), assistant: None };
        claiming.spawn(async move { storage.claim_runs_within(limits, claim).await.unwrap().runs.len() });
    }
    assert_eq!(claiming.join_all().await.into_iter().sum::<usize>(), 8, "four of each user");
}

#[tokio::test]
async fn counting_reads_no_more_than_what_is_counted() {
    let database = Database::new().await;
    let storage = PostgresStorage::open(&database.config()).await.unwrap();
    let ended =
        "INSERT INTO run (id, thread, thread_id, assistant_id, graph_id, status, multitask, metadata, kwargs, plain,
            webhooks_enabled, due_at, events_kept, created_at, updated_at, user_id)
        SELECT gen_random_uuid(), n, gen_random_uuid(), gen_random_uuid(), 'echo',
            CASE WHEN n % 4 = 0 THEN 'pending' ELSE 'success' END, 'enqueue', '{}', '{}', true, true, 0, false, 0, 0,
            'somebody ' || n % 500
        FROM generate_series(1, 20000) AS n; ANALYZE run";
    database.client().await.batch_execute(ended).await.unwrap();
    let limits = PerOwner { user: Some(1_000), assistant: Some(1_000) };
    // So often that plans are made which fit any parameters.
    for n in 0..8 {
        storage.create_run(counted(n, limits)).await.unwrap();
    }
    drop(storage);
    database.end_connections().await;
    let sql = "SELECT seq_scan, (SELECT sum(idx_scan)::bigint FROM pg_stat_user_indexes
             WHERE indexrelname IN ('run_open_of_user', 'run_open_of_assistant')) FROM pg_stat_user_tables WHERE relname = 'run'";
    let client = database.client().await;
    let mut seen = (0, 0);
    for _ in 0..2_000 {
        // Connections tell what they did when they end.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let row = client.query_one(sql, &[]).await.unwrap();
        seen = (row.get::<_, i64>(0), row.get::<_, i64>(1));
        if seen.1 >= 16 {
            break;
        }
    }
    assert!(seen.0 <= 1 && seen.1 >= 16, "{seen:?}: analyzing reads all once, counting by an index");
}
