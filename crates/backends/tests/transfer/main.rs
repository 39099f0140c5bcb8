//! Everything goes from one database into another and back, is the same there, and goes on.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../postgres/database.rs"]
#[expect(dead_code, reason = "these tests need less of it")]
mod database;
mod filled;
mod refusals;
mod resuming;
#[path = "../postgres/server.rs"]
mod server;

use std::{path::Path, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use threadyard_backends::{
    Cipher, Comparison, Place, PostgresStorage, SqliteStorage, Transfer, TransferError, compare, import,
};
use threadyard_core::{
    checkpoints::Writer,
    items::Embedding,
    metadata_filter::MetadataFilter,
    runs::{ExpireLeases, Runs},
    storage::Storage,
    testkit::{new_run, sample_checkpoint},
    threads::NewThread,
};

use database::Database;
use filled::{ODD, at, claim_deliveries, claim_runs, fill, put_item, run, seen, success, thread};

fn folder(folder: &TempDir) -> Place {
    Place::Folder(folder.path().into())
}

fn postgres(database: &Database) -> Place {
    Place::Postgres(Box::new(database.config()))
}

fn transfer(from: &Place, to: &Place) -> Transfer {
    Transfer { from: from.clone(), to: to.clone(), embeddings: false, cipher: Cipher::none() }
}

/// Imports as soon as the connections of whoever was there before have ended.
async fn imported(transfer: &Transfer) -> Vec<Comparison> {
    loop {
        match import(transfer, &mut |_| {}).await {
            Err(TransferError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            outcome => return outcome.unwrap(),
        }
    }
}

fn assert_same(comparisons: &[Comparison]) {
    for it in comparisons {
        assert!(it.is_same(), "{}: {:?} is {:?}", it.noun, it.from, it.to);
    }
}

fn open(folder: &Path) -> SqliteStorage {
    SqliteStorage::open(folder).unwrap()
}

async fn filled() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fill(&open(folder.path())).await;
    folder
}

#[tokio::test]
async fn everything_goes_there_and_back() {
    let (here, database, back) = (filled().await, Database::new().await, tempfile::tempdir().unwrap());
    let there = imported(&transfer(&folder(&here), &postgres(&database))).await;
    assert_same(&there);
    for it in &there {
        assert!(it.from.rows > 0, "there should have been {}", it.noun);
    }
    assert_same(&imported(&transfer(&postgres(&database), &folder(&back))).await);
    assert_same(&compare(&transfer(&folder(&here), &folder(&back)), &mut |_| {}).await.unwrap());

    let expected = seen(&open(here.path())).await;
    assert_eq!(seen(&open(back.path())).await, expected);
    assert_eq!(seen(&PostgresStorage::open(&database.config()).await.unwrap()).await, expected);
}

#[tokio::test]
async fn a_difference_is_found() {
    let (here, there) = (filled().await, filled().await);
    let both = transfer(&folder(&here), &folder(&there));
    assert_same(&compare(&both, &mut |_| {}).await.unwrap());
    put_item(&open(there.path()), &["a", ODD], "another", Vec::new()).await;
    open(here.path()).delete_run(thread(1), run(1), MetadataFilter::default()).await.unwrap();
    let different = compare(&both, &mut |_| {}).await.unwrap();
    let different: Vec<_> = different.iter().filter(|it| !it.is_same()).map(|it| it.noun).collect();
    assert!(different.contains(&"runs") && different.contains(&"items") && !different.contains(&"crons"));
}

#[tokio::test]
async fn what_was_running_or_waiting_goes_on() {
    let (here, database) = (filled().await, Database::new().await);
    imported(&transfer(&folder(&here), &postgres(&database))).await;
    let storage = PostgresStorage::open(&database.config()).await.unwrap();
    goes_on(&storage).await;
    drop(storage);

    let (again, database, back) = (filled().await, Database::new().await, tempfile::tempdir().unwrap());
    imported(&transfer(&folder(&again), &postgres(&database))).await;
    imported(&transfer(&postgres(&database), &folder(&back))).await;
    goes_on(&open(back.path())).await;
}

async fn goes_on(storage: &dyn Storage) {
    let now = at(12);
    let expired = storage.expire_leases(ExpireLeases { now, max_attempts: 3 }).await.unwrap();
    assert_eq!(expired.requeued, [run(4)], "whoever ran it is gone");
    let mut claimed = claim_runs(storage, now).await;
    claimed.sort_by_key(|it| it.run.run_id);
    assert_eq!(
        claimed.iter().map(|it| (it.run.run_id, it.run.attempt)).collect::<Vec<_>>(),
        [(run(4), 2), (run(5), 1)]
    );
    storage.finish_run(claimed[0].lease, success(now)).await.unwrap();
    let sent = claim_deliveries(storage, now).await;
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].attempt, 3, "it was on its way, and nobody knows what came of that");

    // What is made now is numbered behind what has come.
    let new = NewThread { thread_id: thread(100), metadata: filled::object(json!({})), ttl: None, now };
    storage.create_thread(new).await.unwrap();
    storage.create_run(new_run(run(100), thread(100), now)).await.unwrap();
    let put = sample_checkpoint(&thread(100).to_string(), "1", None);
    storage.put_checkpoint(Writer::Call, put).await.unwrap();
    // A value goes on growing from those that have come.
    let grown = storage.checkpoint(&thread(1).to_string(), "", Some("039")).await.unwrap().unwrap();
    assert_eq!(grown.blobs[0].data.len(), 1 + 40 * 400);
}

#[tokio::test]
async fn what_items_mean_goes_along_where_it_can() {
    let here = tempfile::tempdir().unwrap();
    for (key, vector) in [("a", vec![0.1, -2.0]), ("b", vec![1.0, f32::MIN_POSITIVE]), ("b", vec![0.0, 1.0])] {
        let meaning = Embedding { model: ODD.into(), vector };
        put_item(&open(here.path()), &["x"], key, vec![meaning.clone(), meaning]).await;
    }
    let there = tempfile::tempdir().unwrap();
    let whole = |from: &Place, to: &Place| Transfer { embeddings: true, ..transfer(from, to) };
    let copied = imported(&whole(&folder(&here), &folder(&there))).await;
    assert_same(&copied);
    assert_eq!(copied.iter().find(|it| it.noun == "embeddings of items").unwrap().to.rows, 4);

    let database = Database::new().await;
    let refused = loop {
        match import(&whole(&folder(&here), &postgres(&database)), &mut |_| {}).await.unwrap_err() {
            TransferError::InUse { .. } => tokio::time::sleep(Duration::from_millis(20)).await,
            refused => break refused,
        }
    };
    assert!(matches!(&refused, TransferError::Embeddings { count: 4, .. }), "{refused}");
    if !database.has_vectors().await {
        assert_same(&imported(&transfer(&folder(&here), &postgres(&database))).await);
        return;
    }
    assert_same(&imported(&whole(&folder(&here), &postgres(&database))).await);
    let back = tempfile::tempdir().unwrap();
    imported(&whole(&postgres(&database), &folder(&back))).await;
    assert_same(&compare(&whole(&folder(&here), &folder(&back)), &mut |_| {}).await.unwrap());
}
