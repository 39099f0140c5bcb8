//! What waits in a database of an earlier version is still there after its migration.

use std::{collections::BTreeMap, time::Duration};

use refinery::Target;
use rusqlite::OpenFlags;
use threadyard_core::{
    ids::LeaseId,
    time::Timestamp,
    webhooks::{ClaimDeliveries, Webhooks},
};

use super::{connect, embedded};
use crate::{SqliteStorage, cipher::Cipher};

#[tokio::test]
async fn deliveries_that_wait_are_sent_after_an_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let mut old = connect(&folder.path().join("threadyard.db"), OpenFlags::default(), &Cipher::none()).unwrap();
    embedded::migrations::runner().set_target(Target::Version(17)).run(&mut *old).unwrap();
    old.execute_batch(
        r#"INSERT INTO delivery (id, run_id, thread_id, event, url, shown_url, origin, body, state, next_attempt_at,
               created_at, finished_at)
           VALUES ('waits', zeroblob(16), zeroblob(16), 'run.success', 'https://a.example/x?token=1', 'https://a.example/x',
                      'https://a.example', '{"a":1}', 'pending', 5, 5, NULL),
                  ('erased', zeroblob(16), zeroblob(16), 'run.success', 'https://a.example/x', 'https://a.example/x',
                      'https://a.example', '', 'failed', 5, 5, 6)"#,
    )
    .unwrap();
    drop(old);

    let storage = SqliteStorage::open(folder.path()).unwrap();
    let now = Timestamp(10);
    let claim = ClaimDeliveries {
        lease_id: LeaseId(uuid::Uuid::nil()),
        limit: 9,
        bytes: usize::MAX,
        retries: 9,
        per_origin: 9,
        rooms: BTreeMap::new(),
        from: String::new(),
        now,
        until: now + Duration::from_secs(45),
    };
    let taken = storage.claim_deliveries(claim).await.unwrap().deliveries;
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].id.as_str(), taken[0].body.as_ref()), ("waits", br#"{"a":1}"#.as_slice()));
    assert_eq!(taken[0].url, "https://a.example/x?token=1");
    let erased: bool = connect(&folder.path().join("threadyard.db"), OpenFlags::default(), &Cipher::none())
        .unwrap()
        .query_row("SELECT erased FROM delivery WHERE id = 'erased'", [], |row| row.get(0))
        .unwrap();
    assert!(erased);
}
