//! An import that is cut off goes on where it stopped, and what it has left is not served meanwhile.

use std::{path::Path, time::Duration};

use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;
use threadyard_backends::{
    OpenError, Place, PostgresOpenError, PostgresStorage, Progress, SqliteStorage, Step, Transfer, TransferError,
    compare, import,
};
use threadyard_core::{
    checkpoints::{Checkpoints, PutCheckpoint, Writer},
    testkit::sample_checkpoint,
    threads::{NewThread, ThreadQuery, Threads},
};
use tokio::sync::Notify;

use crate::{
    Database, assert_same,
    filled::{at, object, put_item, thread},
    folder, imported, open, postgres, transfer,
};

/// So many threads take several batches.
const THREADS: u64 = 3_500;

async fn many() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path());
    let make = |n| {
        let new = NewThread { thread_id: thread(n), metadata: object(json!({ "n": n })), ttl: None, now: at(0) };
        storage.create_thread(new)
    };
    futures_util::future::join_all((0..THREADS).map(make)).await;
    folder
}

/// Begins an import and drops it when so many batches have come.
async fn cut_off(transfer: &Transfer, after: u32) {
    loop {
        let (enough, mut batches) = (Notify::new(), 0);
        let mut hear = |heard: Progress| {
            batches += u32::from(heard.step == Step::Copying && heard.bytes > 0);
            if batches == after {
                enough.notify_one();
            }
        };
        let outcome = tokio::select! {
            biased;
            () = enough.notified() => return,
            outcome = import(transfer, &mut hear) => outcome,
        };
        match outcome {
            Err(TransferError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            other => panic!("it was not cut off: {other:?}"),
        }
    }
}

/// Why an import does not begin, once the connections of whoever was there before have ended.
async fn refusal(transfer: &Transfer) -> TransferError {
    loop {
        match import(transfer, &mut |_| {}).await.unwrap_err() {
            TransferError::InUse { .. } => tokio::time::sleep(Duration::from_millis(20)).await,
            refused => return refused,
        }
    }
}

/// The first numbers of threads that are heard of when an import goes on. What was being written when it was dropped may
/// still hold the folder.
async fn went_on(transfer: &Transfer) -> u64 {
    loop {
        let mut first = None;
        let mut hear = |heard: Progress| {
            if heard.noun == "threads" {
                first.get_or_insert(heard.rows);
            }
        };
        match import(transfer, &mut hear).await {
            Err(TransferError::InUse { .. } | TransferError::Sqlite(OpenError::InUse(_))) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            outcome => {
                assert_same(&outcome.unwrap());
                return first.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn an_import_into_postgres_goes_on() {
    let (here, database) = (many().await, Database::new().await);
    let there = transfer(&folder(&here), &postgres(&database));
    cut_off(&there, 2).await;
    let refused = PostgresStorage::open(&database.config()).await.err().unwrap();
    assert!(matches!(&refused, PostgresOpenError::Unfinished(_)), "{refused}");

    let other = tempfile::tempdir().unwrap();
    put_item(&open(other.path()), &["a"], "k", Vec::new()).await;
    let target = tempfile::tempdir().unwrap();
    for (from, to) in [(folder(&other), postgres(&database)), (postgres(&database), folder(&target))] {
        let wrong = refusal(&transfer(&from, &to)).await;
        assert!(matches!(&wrong, TransferError::OtherSource { .. }), "{wrong}");
    }

    let at_least = went_on(&there).await;
    assert!((2_000..THREADS).contains(&at_least), "{at_least}");
    let storage = PostgresStorage::open(&database.config()).await.unwrap();
    assert_eq!(storage.count_threads(ThreadQuery::default()).await.unwrap(), THREADS);
}

#[tokio::test]
async fn an_import_into_a_folder_goes_on() {
    let (here, database, back) = (many().await, Database::new().await, tempfile::tempdir().unwrap());
    imported(&transfer(&folder(&here), &postgres(&database))).await;
    let there = transfer(&postgres(&database), &folder(&back));
    cut_off(&there, 2).await;
    refused(back.path()).await;
    let at_least = went_on(&there).await;
    assert!((2_000..THREADS).contains(&at_least), "{at_least}");
    assert_eq!(open(back.path()).count_threads(ThreadQuery::default()).await.unwrap(), THREADS);
}

#[tokio::test]
async fn a_target_that_differs_is_not_served() {
    let (here, there) = (many().await, tempfile::tempdir().unwrap());
    let into = transfer(&folder(&here), &folder(&there));
    cut_off(&into, 2).await;
    refused(there.path()).await;
    // Somebody has changed what had come already.
    let file = Connection::open(there.path().join("threadyard.db")).unwrap();
    assert_eq!(file.execute("UPDATE thread SET updated_at = 0 WHERE k = 1", []).unwrap(), 1);
    drop(file);
    let compared = import(&into, &mut |_| {}).await.unwrap();
    let different: Vec<_> = compared.iter().filter(|it| !it.is_same()).map(|it| it.noun).collect();
    assert_eq!(different, ["threads"]);
    refused(there.path()).await;
}

/// Finds that a folder holds an unfinished import. What was being written when that was dropped may still hold it.
async fn refused(folder: &Path) {
    loop {
        match SqliteStorage::open(folder).err().unwrap() {
            OpenError::InUse(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            refused => break assert!(matches!(&refused, OpenError::Unfinished { .. }), "{refused}"),
        }
    }
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    /// A text of what is hard to hold.
    fn text(&mut self) -> String {
        const PARTS: [&str; 12] = [
            "\0",
            "\u{ffff}",
            "\u{ffff}0",
            "\u{ffff}1",
            "0",
            "1",
            "\\",
            "\"",
            "'",
            "{,}",
            "\u{10ffff}",
            "e\u{301}\r\n",
        ];
        (0..self.below(6)).map(|_| PARTS[self.below(PARTS.len())]).collect()
    }
}

#[tokio::test]
async fn whatever_texts_hold_comes_back() {
    let (here, database, back) = (tempfile::tempdir().unwrap(), Database::new().await, tempfile::tempdir().unwrap());
    let storage = open(here.path());
    let mut numbers = Numbers(1);
    for n in 0..300 {
        let texts: Vec<_> = (0..4).map(|_| numbers.text()).collect();
        let labels: Vec<&str> = texts.iter().take(1 + n % 3).map(String::as_str).collect();
        put_item(&storage, &labels, &texts[3], Vec::new()).await;
        let put = PutCheckpoint { ns: texts[1].clone(), ..sample_checkpoint(&texts[0], &texts[2], Some(&texts[3])) };
        let checkpoint = json!({ "channel_versions": { texts[1].as_str(): texts[2] } }).to_string();
        storage.put_checkpoint(Writer::Call, PutCheckpoint { checkpoint: checkpoint.into(), ..put }).await.unwrap();
    }
    drop(storage);
    assert_same(&imported(&transfer(&folder(&here), &postgres(&database))).await);
    assert_same(&imported(&transfer(&postgres(&database), &folder(&back))).await);
    let both = transfer(&folder(&here), &Place::Folder(back.path().join("threadyard.db")));
    assert_same(&compare(&both, &mut |_| {}).await.unwrap());
}
