//! How PostgreSQL goes about what must not become slow as a database grows: it never reads a whole table.

use std::{collections::BTreeMap, ops::RangeInclusive};

use threadyard_backends::PostgresStorage;
use threadyard_core::{
    agent_task_list::{AgentTasks, TaskQuery},
    cancel::{CancelAction, CancelCause, CancelRequest, CancelRun},
    checkpoints::{Checkpoints, PutWrites, Write, Writer},
    events::Events,
    ids::{AssistantId, LeaseId},
    json::Object,
    metadata_filter::MetadataFilter,
    page::Window,
    runs::{ClaimRuns, ExpireLeases, GivenBack, NewRun, RunQuery, Runs},
    stream::StreamEvent,
    testkit::{new_run, sample_checkpoint},
    threads::{ThreadQuery, ThreadSort, ThreadStatus, Threads},
    time::Timestamp,
};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{at, database::Database, run, success, thread};

/// A database as it is after some time: many threads at rest, each with a run that ended and a checkpoint.
const LIVED_IN: &str = r#"
    INSERT INTO thread (id, metadata, tags, config, rest_status, created_at, updated_at, state_updated_at)
        SELECT gen_random_uuid(), '{"user":"somebody"}', ARRAY[n % 100], '{}', 'idle', n, n, n FROM generate_series(1, 8000) AS n;
    INSERT INTO run (id, thread, thread_id, assistant_id, graph_id, status, multitask, metadata, kwargs, plain,
            webhooks_enabled, due_at, events_kept, created_at, updated_at)
        SELECT gen_random_uuid(), k, id, id, 'echo', 'success', 'enqueue', '{}', '{}', true, true, k, k % 10 = 0, k, k
        FROM thread;
    INSERT INTO lineage (thread) SELECT id::text FROM thread;
    INSERT INTO checkpoint (lineage, ns, id, checkpoint, metadata, needs_parent, run)
        SELECT k, '', '1', '{}', '{}', false, gen_random_uuid() FROM lineage;
    INSERT INTO pending_write (lineage, ns, checkpoint, task, idx, path, channel, kind, data)
        SELECT k, '', '1', 't', 0, '', 'c', 'k', '' FROM lineage;
    INSERT INTO blob (lineage, ns, channel, version, kind, data, base_from, head, copied, nth, packed)
        SELECT k, '', 'log', '1', 'k', '', 0, 0, 0, 0, false FROM lineage;
    INSERT INTO cron (id, assistant_id, thread_id, schedule, enabled, metadata, payload, created_at, updated_at)
        SELECT gen_random_uuid(), id, id, '* * * * *', true, '{}', '{}', 0, 0 FROM thread;
    INSERT INTO delivery (id, run_id, thread_id, event, url, shown_url, origin, state, next_attempt_at, scheduled_from,
            created_at, finished_at)
        SELECT id::text, id, thread_id, 'run.success', '', '', '', 'delivered', k, k, k, k FROM run;
    INSERT INTO event (run, seq, name, data) SELECT k, 1, 'e', '' FROM run;
    ANALYZE;
"#;

/// How often each table was read from its beginning to its end.
async fn scans(client: &Client) -> BTreeMap<String, i64> {
    let sql = "SELECT relname::text, seq_scan FROM pg_stat_user_tables";
    client.query(sql, &[]).await.unwrap().into_iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn nothing_that_is_done_for_a_run_reads_a_whole_table() {
    let database = Database::new().await;
    database.client().await.batch_execute(LIVED_IN).await.unwrap();
    database.end_connections().await;
    let before = scans(&database.client().await).await;
    let storage = PostgresStorage::open(&database.config()).await.unwrap();
    // So often that plans are made which fit any parameters.
    for n in 1..=18 {
        let mut new = new_run(run(n), thread(n), at(0));
        (new.create_thread, new.run.kwargs.resumable) = (Some(Object::new()), true);
        new.run.kwargs.temporary = n % 3 == 1;
        storage.create_run(new).await.unwrap();
        let claim = ClaimRuns { lease_id: LeaseId(Uuid::from_u64_pair(4, n)), limit: 9, now: at(1), until: at(31) };
        let lease = storage.claim_runs(claim).await.unwrap().runs.remove(0).lease;
        storage.extend_leases(vec![lease], at(31)).await.unwrap();
        let (name, writer) = (thread(n).to_string(), Writer::Run(lease));
        storage.put_checkpoint(writer, sample_checkpoint(&name, "1", None)).await.unwrap();
        let (task, path, channel, kind) = ("t".into(), String::new(), "c".into(), "k".into());
        let written = vec![Write { task, path, index: 0, channel, kind, data: "x".into() }];
        storage
            .put_writes(writer, PutWrites { thread: name.clone(), ns: String::new(), id: "1".into(), writes: written })
            .await
            .unwrap();
        storage.keep_events(lease, 1, vec![StreamEvent::of("e", &1)]).await.unwrap();
        storage.kept_events(run(n), 0).await.unwrap();
        storage.checkpoint(&name, "", None).await.unwrap();
        match n % 3 {
            0 | 1 => drop(storage.finish_run(lease, success(at(2))).await.unwrap()),
            _ => storage.requeue_run(lease, GivenBack::Failed, at(2)).await.unwrap(),
        }
        storage.expire_leases(ExpireLeases { now: at(40), max_attempts: 3 }).await.unwrap();
        let request = CancelRequest { action: CancelAction::Rollback, reason: "test".into(), cause: CancelCause::User };
        let (thread_id, run_id, within) = (thread(n), run(n), MetadataFilter::default());
        storage.cancel_run(CancelRun { thread_id, run_id, within, request, now: at(41) }).await.unwrap();
    }
    storage.delete_run(thread(3), run(3), MetadataFilter::default()).await.unwrap();
    storage.queue_stats(at(42)).await.unwrap();
    storage.open_runs(None).await.unwrap();
    let window = Window { limit: 10, offset: 10 };
    storage.search_runs(RunQuery { thread_id: thread(6), status: None }, window).await.unwrap();
    for context in [None, Some(thread(6))] {
        let (assistant_id, metadata, visible) = (AssistantId(Uuid::nil()), Object::new(), MetadataFilter::default());
        storage.agent_tasks(TaskQuery { assistant_id, context, metadata, visible }, window).await.unwrap();
    }
    for sort_by in [ThreadSort::CreatedAt, ThreadSort::UpdatedAt, ThreadSort::StateUpdatedAt, ThreadSort::ThreadId] {
        for metadata in [Object::new(), Object::from_iter([("user".into(), "nobody".into())])] {
            for status in [None, Some(ThreadStatus::Error), Some(ThreadStatus::Busy)] {
                let query = ThreadQuery { sort_by, metadata: metadata.clone(), status, ..ThreadQuery::default() };
                storage.search_threads(query, window).await.unwrap();
            }
        }
    }
    storage.delete_thread(thread(6), MetadataFilter::default()).await.unwrap();
    drop(storage);
    database.end_connections().await;
    let mut after = scans(&database.client().await).await;
    after.retain(|table, scans| before.get(table) != Some(scans));
    // They have one row for each migration, and for each key.
    after.remove("refinery_schema_history");
    after.remove("encryption_key");
    assert!(after.is_empty(), "read as a whole, though it is long: {after:?}, before that {before:?}");
}

/// Before statistics tell that the queue is long, a plan may look good that reads all of it.
#[tokio::test]
async fn a_few_claims_do_not_read_a_queue_that_became_long() {
    let database = Database::new().await;
    let storage = PostgresStorage::open(&database.config()).await.unwrap();
    let waiting = (1..=3_000).map(|n| new_run(run(n), thread(n), at(0)));
    let waiting = waiting.map(|new| NewRun { create_thread: Some(Object::new()), ..new });
    storage.create_runs(waiting.collect()).await.unwrap().unwrap();
    drop(storage);
    let before = entries_read(&database).await;
    let storage = PostgresStorage::open(&database.config()).await.unwrap();
    for n in 1..=20 {
        let lease_id = LeaseId(Uuid::from_u64_pair(4, n));
        let claim = ClaimRuns { lease_id, limit: 5, now: at(1), until: at(31) };
        assert_eq!(storage.claim_runs(claim).await.unwrap().runs.len(), 5);
    }
    drop(storage);
    let read = entries_read(&database).await - before;
    assert!(read < 10_000, "{read} entries of indexes were read to claim a hundred runs of 3,000");
}

/// What waits for a later time is not looked through for each run after it.
#[tokio::test]
async fn runs_of_a_thread_for_later_do_not_slow_down_claims() {
    let database = Database::new().await;
    let storage = PostgresStorage::open(&database.config()).await.unwrap();
    let of_thread = |numbers: RangeInclusive<u64>, due: Timestamp| {
        let new = numbers.map(move |n| new_run(run(n), thread(1), at(0)));
        new.map(move |mut new| {
            (new.create_thread, new.due_at) = (Some(Object::new()), due);
            new
        })
    };
    let waiting = of_thread(1..=500, at(100)).chain(of_thread(501..=1_000, at(0)));
    storage.create_runs(waiting.collect()).await.unwrap().unwrap();
    drop(storage);
    let before = entries_read(&database).await;
    let storage = PostgresStorage::open(&database.config()).await.unwrap();
    let claim = ClaimRuns { lease_id: LeaseId(Uuid::from_u64_pair(4, 1)), limit: 5, now: at(1), until: at(31) };
    let claimed = storage.claim_runs(claim).await.unwrap();
    assert_eq!(claimed.runs.iter().map(|claimed| claimed.run.run_id).collect::<Vec<_>>(), [run(501)]);
    drop(storage);
    let read = entries_read(&database).await - before;
    assert!(read < 10_000, "{read} entries of indexes were read for one run of a thread with 1,000");
}

/// What was found so far in the indexes of runs.
async fn entries_read(database: &Database) -> i64 {
    database.end_connections().await;
    let sql = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'run'";
    database.client().await.query_one(sql, &[]).await.unwrap().get(0)
}
