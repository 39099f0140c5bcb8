//! Whom the data folder is for, and what is forgotten.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use threadyard_backends::SqliteStorage;
use threadyard_core::{retention::DeliveryTimes, testkit::new_run, webhooks::NextStep};

use crate::{
    Backend, at,
    contract::webhooks::{claim, result},
    run, success, thread,
};

#[tokio::test]
async fn a_folder_is_for_its_user_alone() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let _storage = SqliteStorage::open(&folder).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for entry in folder.read_dir().unwrap() {
        let file = entry.unwrap().path();
        assert_eq!(mode(&file) & 0o077, 0, "{}", file.display());
    }
}

#[tokio::test]
async fn who_made_a_run_is_forgotten_with_what_its_webhook_said() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    let mut new = new_run(run(1), thread(1), at(0));
    new.run.kwargs.webhook = Some("/done".into());
    let configurable = json!({ "langgraph_auth_user": { "identity": "ann" } });
    new.run.kwargs.config.insert("configurable".into(), configurable);
    backend.storage.create_run(new).await.unwrap();
    let held = backend.claim(1, at(1)).await.remove(0);
    backend.storage.finish_run(held.lease, success(at(2))).await.unwrap();
    let makers = || {
        let database = rusqlite::Connection::open(backend.folder.path().join("threadyard.db")).unwrap();
        database.query_row("SELECT count(maker) FROM delivery", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(makers(), 1);
    let delivery = claim(&backend, 3).await.remove(0);
    backend.storage.record_attempt(result(&delivery, 4, NextStep::Failed)).await.unwrap();
    backend.storage.sweep_deliveries(DeliveryTimes { body: at(5), row: at(3) }, 10).await.unwrap();
    assert_eq!(makers(), 0);
}
