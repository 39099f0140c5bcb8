//! A server that stops in the middle of something, and does not even close its connections.

use std::time::Duration;

use threadyard_backends::PostgresStorage;
use threadyard_core::{
    ids::LeaseId,
    json::Object,
    runs::{ClaimRuns, ExpireLeases, Runs},
    storage::StorageError,
    testkit::new_run,
};
use tokio::{runtime::Builder, task::yield_now};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{at, database::Database, run, success, thread};

/// Whether a connection waits in the middle of a transaction in which it has locked a run.
async fn hangs(client: &Client) -> bool {
    // What it has asked is answered first, however long that takes.
    let asking = "SELECT FROM pg_stat_activity
         WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid()";
    while !client.query(asking, &[]).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'";
    let free = "SELECT FROM run FOR UPDATE SKIP LOCKED";
    client.query_opt(waiting, &[]).await.unwrap().is_some() && client.query_opt(free, &[]).await.unwrap().is_none()
}

#[test]
fn a_server_that_stops_in_a_transaction_keeps_nobody_from_its_runs() {
    let [frozen, living] = [(); 2].map(|()| Builder::new_current_thread().enable_all().build().unwrap());
    let (database, other, client) = living.block_on(async {
        let database = Database::new().await;
        let other = PostgresStorage::open(&database.config()).await.unwrap();
        let client = database.client().await;
        (database, other, client)
    });
    let (storage, lease) = frozen.block_on(async {
        let storage = PostgresStorage::open(&database.config()).await.unwrap();
        let mut new = new_run(run(1), thread(1), at(0));
        (new.create_thread, new.run.kwargs.temporary) = (Some(Object::new()), true);
        storage.create_run(new).await.unwrap();
        let claim = ClaimRuns { lease_id: LeaseId(Uuid::nil()), limit: 1, now: at(1), until: at(31) };
        let lease = storage.claim_runs(claim).await.unwrap().runs[0].lease;
        (storage, lease)
    });
    // It goes on step by step, until it is seen in the middle of something.
    let mut finish = storage.finish_run(lease, success(at(2)));
    loop {
        let ended = frozen.block_on(async {
            tokio::select! {
                biased;
                ended = &mut finish => Some(ended),
                () = yield_now() => None,
            }
        });
        assert!(ended.is_none(), "it was not seen in the middle of it");
        if living.block_on(hangs(&client)) {
            break;
        }
    }
    let expire = ExpireLeases { now: at(40), max_attempts: 3 };
    living.block_on(async {
        let taken_back = async {
            while other.expire_leases(expire).await.unwrap().requeued.is_empty() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(2), taken_back).await.expect("its run is never taken back");
    });
    // It comes back, and hears what has become of its lease.
    assert_eq!(frozen.block_on(finish), Err(StorageError::LeaseLost));
    drop((storage, other));
}
