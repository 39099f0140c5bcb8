//! A folder belongs to one process, so that whoever opens it knows that nobody holds a lease any more.

use threadyard_backends::KeyFolder;
use threadyard_core::{
    api_keys::{ApiKey, ApiKeys, KeyDigest},
    runs::ExpireLeases,
    testkit::new_run,
};

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

#[tokio::test]
async fn keys_are_looked_after_beside_the_server_that_has_the_folder() {
    let backend = Backend::new().await;
    let beside = KeyFolder::open(backend.folder.path()).unwrap();
    let key = ApiKey {
        id: "ty_a".into(),
        name: "ann".into(),
        identity: "ann".into(),
        scopes: Vec::new(),
        created_at: at(0),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    };
    beside.create_api_key(key.clone(), KeyDigest([1; 32])).await.unwrap();
    assert_eq!(backend.storage.api_key("ty_a").await.unwrap(), Some((key, KeyDigest([1; 32]))));
    beside.revoke_api_key("ty_a", at(1)).await.unwrap();
    assert_eq!(backend.storage.api_keys().await.unwrap()[0].revoked_at, Some(at(1)));
}
