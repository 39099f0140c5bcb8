//! A folder belongs to one process, so that whoever opens it knows that nobody holds a lease any more.

use threadyard_core::{runs::ExpireLeases, testkit::new_run};

use crate::{
    Backend, at,
    contract::webhooks::{claim, ended_run},
    run, thread,
};

#[tokio::test]
async fn a_dead_process_holds_no_lease() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    backend.storage.create_run(new_run(run(1), thread(1), at(0))).await.unwrap();
    backend.claim(1, at(0)).await;
    let backend = backend.reopen().await;
    let expired = backend.storage.expire_leases(ExpireLeases { now: at(1), max_attempts: 3 }).await.unwrap();
    assert_eq!(expired.requeued, [run(1)]);
}

#[tokio::test]
async fn a_dead_sender_is_replaced_at_once_after_a_restart() {
    let backend = Backend::new().await;
    ended_run(&backend, true).await;
    claim(&backend, 2).await;
    let backend = backend.reopen().await;
    assert_eq!(claim(&backend, 3).await.remove(0).attempt, 2);
}
