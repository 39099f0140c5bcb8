//! `threadyard import` opens what is encrypted where it comes from, and encrypts it where it goes.

use std::time::Duration;

use threadyard_backends::{Cipher, Place, PostgresStorage, SqliteStorage, Transfer, TransferError, compare, import};

use crate::{
    NEW, OLD, cipher,
    confided::{confide, copy, remember, tell},
    database::Database,
    is_in_files, tables_with_it,
};

fn postgres(database: &Database) -> Place {
    Place::Postgres(Box::new(database.config()))
}

fn transfer(from: &Place, to: &Place, cipher: Cipher) -> Transfer {
    Transfer { from: from.clone(), to: to.clone(), embeddings: false, cipher }
}

/// Imports as soon as the connections of whoever was there before have ended.
async fn imported(transfer: &Transfer) {
    loop {
        match import(transfer, &mut |_| {}).await {
            Err(TransferError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            outcome => return assert!(outcome.unwrap().iter().all(threadyard_backends::Comparison::is_same)),
        }
    }
}

#[tokio::test]
async fn an_import_leaves_the_older_key_behind() {
    let (here, database, back) = (tempfile::tempdir().unwrap(), Database::new().await, tempfile::tempdir().unwrap());
    let (from, to) = (Place::Folder(here.path().into()), Place::Folder(back.path().into()));
    confide(&SqliteStorage::open_with(here.path(), &cipher(OLD, &[])).unwrap()).await;
    for wrong in [Cipher::none(), cipher(NEW, &[])] {
        let refused = import(&transfer(&from, &postgres(&database), wrong), &mut |_| {}).await.unwrap_err();
        assert!(matches!(refused, TransferError::Keys { .. }), "{refused}");
    }
    imported(&transfer(&from, &postgres(&database), cipher(NEW, &[OLD]))).await;
    assert_eq!(tables_with_it(&database).await, Vec::<String>::new());
    imported(&transfer(&postgres(&database), &to, cipher(NEW, &[]))).await;
    assert!(!is_in_files(back.path()));
    let both = transfer(&from, &to, cipher(NEW, &[OLD]));
    assert!(compare(&both, &mut |_| {}).await.unwrap().iter().all(threadyard_backends::Comparison::is_same));

    let storage = PostgresStorage::open_with(&database.config(), &cipher(NEW, &[])).await.unwrap();
    remember(&storage).await;
    tell(&storage).await;
    copy(&storage).await;
    let storage = SqliteStorage::open_with(back.path(), &cipher(NEW, &[])).unwrap();
    remember(&storage).await;
    tell(&storage).await;
    copy(&storage).await;
}

#[tokio::test]
async fn an_import_encrypts_what_was_not() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (Place::Folder(here.path().into()), Place::Folder(there.path().into()));
    confide(&SqliteStorage::open(here.path()).unwrap()).await;
    imported(&transfer(&from, &to, cipher(NEW, &[]))).await;
    assert!(is_in_files(here.path()) && !is_in_files(there.path()));
    remember(&SqliteStorage::open_with(there.path(), &cipher(NEW, &[])).unwrap()).await;
    assert!(SqliteStorage::open(here.path()).is_ok(), "where it came from nothing has changed");
}
