//! Servers of one version after the other on one database, and both at once while they are replaced.

use threadyard_backends::PostgresStorage;
use threadyard_core::{
    ids::LeaseId,
    json::Object,
    runs::{ClaimRuns, Runs},
    testkit::new_run,
    threads::{ThreadQuery, Threads},
};
use uuid::Uuid;

use crate::{at, database::Database, run, success, thread};

#[tokio::test]
async fn a_server_goes_on_while_a_newer_one_adds_to_the_tables() {
    let database = Database::new().await;
    let storage = PostgresStorage::open(&database.config()).await.unwrap();
    let window = threadyard_core::page::Window { limit: 9, offset: 0 };
    for n in 0..6 {
        let mut new = new_run(run(n), thread(n), at(0));
        new.create_thread = Some(Object::new());
        storage.create_run(new).await.unwrap();
        let claim = ClaimRuns { lease_id: LeaseId(Uuid::from_u64_pair(4, n)), limit: 1, now: at(1), until: at(31) };
        let claimed = storage.claim_runs(claim).await.unwrap().runs.remove(0);
        storage.run_by_id(run(n)).await.unwrap().unwrap();
        storage.finish_run(claimed.lease, success(at(2))).await.unwrap();
        storage.search_threads(ThreadQuery::default(), window).await.unwrap();
        if n % 2 == 1 {
            let tables = ["run", "thread", "checkpoint", "delivery"];
            let add = tables.map(|table| format!("ALTER TABLE {table} ADD COLUMN later_{n} bigint"));
            database.client().await.batch_execute(&add.join("; ")).await.unwrap();
        }
    }
}
