//! Several servers on one database, and operations that stand in each other's way.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use threadyard_backends::PostgresStorage;
use threadyard_core::{
    cancel::{CancelAction, CancelCause, CancelRequest, CancelRun},
    checkpoints::{Checkpoints, PutWrites, Write, Writer},
    ids::LeaseId,
    json::Object,
    metadata_filter::MetadataFilter,
    runs::{ClaimRuns, ExpireLeases, Lease, MultitaskStrategy, RunQuery, RunStatus, Runs},
    storage::StorageError,
    testkit::{new_run, sample_checkpoint},
    threads::{NewThread, ThreadPatch, Threads},
};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{Backend, at, database::Database, run, success, thread};

/// Two servers on one database.
pub(crate) async fn two(database: &Database) -> [Arc<PostgresStorage>; 2] {
    let open = async || Arc::new(PostgresStorage::open(&database.config()).await.unwrap());
    [open().await, open().await]
}

fn claim(lease: u64, limit: u32) -> ClaimRuns {
    ClaimRuns { lease_id: LeaseId(Uuid::from_u64_pair(4, lease)), limit, now: at(1), until: at(31) }
}

#[tokio::test(flavor = "multi_thread")]
async fn claimers_on_two_servers_never_share_a_run_nor_run_two_of_one_thread() {
    let database = Database::new().await;
    let servers = two(&database).await;
    for n in 0..120 {
        let mut new = new_run(run(n), thread(n % 30), at(0));
        new.create_thread = Some(Object::new());
        servers[0].create_run(new).await.unwrap();
    }
    let mut ended = HashSet::new();
    // Each thread has four runs, which take at least four rounds.
    while ended.len() < 120 {
        let mut claimers = JoinSet::new();
        for claimer in 0..50 {
            let storage = servers[usize::try_from(claimer % 2).unwrap()].clone();
            let lease = claimer + 100 * ended.len() as u64;
            claimers.spawn(async move { storage.claim_runs(claim(lease, 3)).await.unwrap().runs });
        }
        let claimed: Vec<_> = claimers.join_all().await.into_iter().flatten().collect();
        let threads: HashSet<_> = claimed.iter().map(|it| it.run.thread_id).collect();
        assert_eq!(threads.len(), claimed.len(), "two runs of one thread");
        for it in claimed {
            assert!(ended.insert(it.run.run_id), "{} was claimed twice", it.run.run_id);
            servers[ended.len() % 2].finish_run(it.lease, success(at(2))).await.unwrap();
        }
    }
}

/// A run that is claimed.
async fn held(storage: &PostgresStorage, n: u64) -> Lease {
    let mut new = new_run(run(n), thread(n), at(0));
    new.create_thread = Some(Object::new());
    storage.create_run(new).await.unwrap();
    storage.claim_runs(claim(n, 1)).await.unwrap().runs.remove(0).lease
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_lost_while_it_is_checked_writes_nothing() {
    let database = Database::new().await;
    let [holder, other] = two(&database).await;
    for n in 0..20 {
        let lease = held(&holder, n).await;
        let name = thread(n).to_string();
        let put = holder.put_checkpoint(Writer::Run(lease), sample_checkpoint(&name, "1", None));
        let expire = ExpireLeases { now: at(40), max_attempts: 3 };
        let (put, expired) = tokio::join!(put, other.expire_leases(expire));
        let (saved, expired) = (put.is_ok(), !expired.unwrap().requeued.is_empty());
        assert!(saved || expired, "who is in the way of whom?");
        // Whoever came first is heard of by the other.
        let found = other.checkpoint(&name, "", None).await.unwrap();
        assert_eq!(found.is_some(), saved);
        if expired {
            let late = holder.put_checkpoint(Writer::Run(lease), sample_checkpoint(&name, "2", None)).await;
            assert_eq!(late, Err(StorageError::LeaseLost));
        }
        other.delete_thread(thread(n), MetadataFilter::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_progress_holds_its_lease_until_its_commit() {
    let database = Database::new().await;
    let [holder, other] = two(&database).await;
    let lease = held(&holder, 1).await;
    let client = database.client().await;
    client.batch_execute("BEGIN").await.unwrap();
    let check = "SELECT FROM run WHERE id = $1 AND lease_id = $2 FOR KEY SHARE";
    client.query_one(check, &[&lease.run_id.0, &lease.lease_id.0]).await.unwrap();
    let expire = ExpireLeases { now: at(40), max_attempts: 3 };
    assert!(other.expire_leases(expire).await.unwrap().requeued.is_empty());
    // Renewing a lease waits for nobody.
    holder.extend_leases(vec![lease], at(39)).await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(other.expire_leases(expire).await.unwrap().requeued, [run(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_run_is_taken_back_once() {
    let database = Database::new().await;
    let servers = two(&database).await;
    for n in 0..20 {
        held(&servers[0], n).await;
    }
    let mut sweeps = JoinSet::new();
    for n in 0..10_usize {
        let storage = servers[n % 2].clone();
        let expire = ExpireLeases { now: at(40), max_attempts: 1 };
        sweeps.spawn(async move { storage.expire_leases(expire).await.unwrap().ended.len() });
    }
    assert_eq!(sweeps.join_all().await.into_iter().sum::<usize>(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_in_a_group_fails_alone() {
    let backend = Backend::new().await;
    let lost = Lease { run_id: run(9), lease_id: LeaseId(Uuid::nil()) };
    let mut taken = JoinSet::new();
    for n in 0..200 {
        let storage = backend.storage.clone();
        taken.spawn(async move {
            let mut new = new_run(run(n % 150), thread(n), at(0));
            new.create_thread = Some(Object::new());
            let name = n.to_string();
            let put = storage.put_checkpoint(Writer::Call, sample_checkpoint(&name, "1", None));
            let late = storage.put_checkpoint(Writer::Run(lost), sample_checkpoint(&name, "2", None));
            let made = storage.create_run(new).await;
            put.await.unwrap();
            assert_eq!(late.await, Err(StorageError::LeaseLost));
            u64::from(made.is_ok())
        });
    }
    // Fifty ids are there twice.
    assert_eq!(taken.join_all().await.into_iter().sum::<u64>(), 150);
    for n in 0..200 {
        let newest = backend.storage.checkpoint(&n.to_string(), "", None).await.unwrap().unwrap();
        assert_eq!(newest.id, "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_to_a_thread_keep_the_order_in_which_they_were_submitted() {
    let backend = Backend::new().await;
    for round in 0..20 {
        let name = format!("thread {round}");
        let write = |data: &'static str| Write {
            task: "t".into(),
            path: String::new(),
            index: -1,
            channel: "c".into(),
            kind: "json".into(),
            data: data.into(),
        };
        let put =
            |data| PutWrites { thread: name.clone(), ns: String::new(), id: "1".into(), writes: vec![write(data)] };
        let checkpoint = backend.storage.put_checkpoint(Writer::Call, sample_checkpoint(&name, "1", None));
        let promises: Vec<_> =
            ["a", "b", "c", "d"].map(|data| backend.storage.put_writes(Writer::Call, put(data))).into_iter().collect();
        // They are done whether somebody waits for them in this order or not.
        for promise in promises.into_iter().rev() {
            promise.await.unwrap();
        }
        checkpoint.await.unwrap();
        let found = backend.storage.checkpoint(&name, "", None).await.unwrap().unwrap();
        assert_eq!(&found.writes[0].data[..], b"d");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_that_lock_the_same_threads_in_any_order_all_succeed() {
    let database = Database::new().await;
    let servers = two(&database).await;
    for n in 0..6 {
        let new = NewThread { thread_id: thread(n), metadata: Object::new(), ttl: None, now: at(0) };
        servers[0].create_thread(new).await.unwrap();
    }
    let mut tasks = JoinSet::new();
    for n in 0..240_u64 {
        let storage = servers[usize::try_from(n % 2).unwrap()].clone();
        tasks.spawn(async move {
            let on = thread(n % 6);
            let mut new = new_run(run(n), on, at(0));
            new.run.multitask_strategy =
                [MultitaskStrategy::Enqueue, MultitaskStrategy::Interrupt][usize::from(n % 5 == 0)];
            storage.create_run(new).await.unwrap();
            for claimed in storage.claim_runs(claim(1_000 + n, 2)).await.unwrap().runs {
                let writer = Writer::Run(claimed.lease);
                let name = claimed.run.thread_id.to_string();
                storage.put_checkpoint(writer, sample_checkpoint(&name, &n.to_string(), None)).await.unwrap();
                storage.finish_run(claimed.lease, success(at(2))).await.unwrap();
            }
            let request =
                CancelRequest { action: CancelAction::Interrupt, reason: "test".into(), cause: CancelCause::User };
            storage
                .cancel_run(CancelRun {
                    thread_id: on,
                    run_id: run(n / 2),
                    within: MetadataFilter::default(),
                    request,
                    now: at(3),
                })
                .await
                .unwrap();
            let metadata = Object::from_iter([(format!("key {n}"), n.into())]);
            storage
                .patch_thread(on, ThreadPatch { within: MetadataFilter::default(), metadata, ttl: None }, at(3))
                .await
                .unwrap();
        });
    }
    tasks.join_all().await;
    for n in 0..6 {
        let found = servers[0].thread(thread(n)).await.unwrap().unwrap();
        assert_eq!(found.metadata.len(), 40, "no change is lost");
        let query = RunQuery { thread_id: thread(n), status: Some(RunStatus::Running) };
        let window = threadyard_core::page::Window { limit: 9, offset: 0 };
        assert!(servers[0].search_runs(query, window).await.unwrap().rows.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_is_said_to_be_and_found_again() {
    let database = Database::new().await;
    let storage = PostgresStorage::open(&database.config()).await.unwrap();
    let lease = held(&storage, 1).await;
    database.close_to_everybody(true).await;
    let name = thread(1).to_string();
    let asked = async {
        let read = storage.run_by_id(run(1)).await.map(drop);
        let put = storage.put_checkpoint(Writer::Run(lease), sample_checkpoint(&name, "1", None)).await;
        [read, put, storage.finish_run(lease, success(at(2))).await.map(drop)]
    };
    for refused in tokio::time::timeout(Duration::from_mins(2), asked).await.unwrap() {
        assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{refused:?}");
    }
    database.close_to_everybody(false).await;
    storage.put_checkpoint(Writer::Run(lease), sample_checkpoint(&name, "1", None)).await.unwrap();
    // Connections that broke while nobody used them are noticed before they are used.
    database.end_connections().await;
    storage.finish_run(lease, success(at(2))).await.unwrap();
    assert_eq!(storage.run_by_id(run(1)).await.unwrap().unwrap().status, RunStatus::Success);
}

#[tokio::test]
async fn the_clock_of_the_database_is_compared_with_ours() {
    let database = Database::new().await;
    let storage = PostgresStorage::open(&database.config()).await.unwrap();
    let (ambient, clock) = threadyard_core::testkit::ambient();
    let begun = Instant::now();
    let first = storage.clock_offset(|| ambient.now()).await.unwrap();
    clock.advance(Duration::from_hours(1));
    let later = storage.clock_offset(|| ambient.now()).await.unwrap();
    // That of the database went on meanwhile, and ours did not.
    let (behind, hour) = (first - later, 3_600_000_000);
    let meanwhile = i64::try_from(begun.elapsed().as_micros()).unwrap();
    assert!((hour - meanwhile..=hour).contains(&behind), "{behind}");
}

#[tokio::test]
async fn a_database_of_a_newer_server_is_refused() {
    let database = Database::new().await;
    assert!(PostgresStorage::pending_migrations(&database.config()).await.unwrap().is_empty());
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum)
         SELECT 9999, 'later', applied_on, checksum FROM refinery_schema_history LIMIT 1";
    database.client().await.batch_execute(newer).await.unwrap();
    let Err(refused) = PostgresStorage::open(&database.config()).await else { panic!("it was opened") };
    assert!(refused.to_string().contains("9999"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_locks_a_row_for_ever_does_not_stop_everybody() {
    let database = Database::new().await;
    let storage = Arc::new(PostgresStorage::open(&database.config()).await.unwrap());
    for n in 0..12 {
        let new = NewThread { thread_id: thread(n), metadata: Object::new(), ttl: None, now: at(0) };
        storage.create_thread(new).await.unwrap();
    }
    let client = database.client().await;
    client.batch_execute("BEGIN").await.unwrap();
    client.query_one("SELECT FROM thread WHERE id = $1 FOR UPDATE", &[&thread(0).0]).await.unwrap();
    let mut made = JoinSet::new();
    for n in 0..12 {
        let storage = storage.clone();
        made.spawn(async move { (n, storage.create_run(new_run(run(n), thread(n), at(0))).await) });
    }
    let made = tokio::time::timeout(Duration::from_mins(2), made.join_all()).await.unwrap();
    for (n, outcome) in made {
        assert_eq!(matches!(outcome, Err(StorageError::Unavailable(_))), n == 0, "{n}: {outcome:?}");
    }
    client.batch_execute("COMMIT").await.unwrap();
    storage.create_run(new_run(run(99), thread(0), at(0))).await.unwrap();
}
