//! Which keys open a database, and how one takes the place of another.

use threadyard_backends::{Cipher, OpenError, PostgresOpenError, PostgresStorage, SqliteStorage};

use crate::{
    NEW, OLD, cipher,
    confided::{confide, items, put_item, remember},
    database::Database,
    is_in_files, key, tables_with_it,
};

/// What a refusal says: the names of keys, and never the keys.
fn assert_names(refused: &str, named: &[&str], said: &str) {
    for text in named {
        assert!(refused.contains(&key(text).name()), "{refused}");
    }
    assert!(refused.contains(said) && !refused.contains(OLD) && !refused.contains(NEW), "{refused}");
}

#[tokio::test]
async fn a_folder_opens_with_its_keys_alone() {
    let folder = tempfile::tempdir().unwrap();
    let open = |cipher: &Cipher| SqliteStorage::open_with(folder.path(), cipher);
    confide(&open(&cipher(OLD, &[])).unwrap()).await;
    let refused = open(&Cipher::none()).err().unwrap();
    assert!(matches!(refused, OpenError::Keys { .. }), "{refused}");
    assert_names(&refused.to_string(), &[OLD], "LANGGRAPH_AES_KEY");
    let refused = open(&cipher(NEW, &[])).err().unwrap().to_string();
    assert_names(&refused, &[OLD, NEW], "LANGGRAPH_AES_FALLBACK_KEYS");

    // The newer key takes over, and the older one still opens what it sealed.
    let both = open(&cipher(NEW, &[OLD])).unwrap();
    remember(&both).await;
    put_item(&both, "another").await;
    drop(both);
    assert_names(&open(&cipher(NEW, &[])).err().unwrap().to_string(), &[OLD, NEW], "LANGGRAPH_AES_FALLBACK_KEYS");
    assert_names(&open(&cipher(OLD, &[])).err().unwrap().to_string(), &[OLD, NEW], "LANGGRAPH_AES_FALLBACK_KEYS");
    assert_eq!(items(&open(&cipher(NEW, &[OLD])).unwrap()).await.unwrap(), 2);
    assert_eq!(items(&open(&cipher(OLD, &[NEW])).unwrap()).await.unwrap(), 2);
}

#[tokio::test]
async fn a_shared_database_opens_with_its_keys_alone() {
    let database = Database::new().await;
    let open = async |cipher: Cipher| PostgresStorage::open_with(&database.config(), &cipher).await;
    let before = open(Cipher::none()).await.unwrap();
    confide(&open(cipher(OLD, &[])).await.unwrap()).await;
    let refused = open(Cipher::none()).await.err().unwrap();
    assert!(matches!(refused, PostgresOpenError::Keys(_)), "{refused}");
    assert_names(&refused.to_string(), &[OLD], "LANGGRAPH_AES_KEY");
    assert_names(&open(cipher(NEW, &[])).await.err().unwrap().to_string(), &[OLD, NEW], "LANGGRAPH_AES_FALLBACK_KEYS");
    // A server that was there before there was a key finds what it can't read, and takes it for nothing else.
    let refused = items(&before).await.unwrap_err().to_string();
    assert!(refused.contains("set LANGGRAPH_AES_KEY"), "{refused}");

    let both = open(cipher(NEW, &[OLD])).await.unwrap();
    remember(&both).await;
    put_item(&both, "another").await;
    assert_eq!(items(&open(cipher(OLD, &[NEW])).await.unwrap()).await.unwrap(), 2);
    assert!(open(cipher(NEW, &[])).await.is_err());
}

#[tokio::test]
async fn what_was_there_before_the_key_is_read_as_it_is() {
    let (folder, database) = (tempfile::tempdir().unwrap(), Database::new().await);
    confide(&SqliteStorage::open(folder.path()).unwrap()).await;
    let storage = SqliteStorage::open_with(folder.path(), &cipher(NEW, &[])).unwrap();
    remember(&storage).await;
    put_item(&storage, "another").await;
    assert_eq!(items(&storage).await.unwrap(), 2);
    drop(storage);
    assert!(is_in_files(folder.path()), "it is not encrypted by being there");
    let connection = rusqlite::Connection::open(folder.path().join("threadyard.db")).unwrap();
    let sealed = "SELECT group_concat(key) FROM item WHERE value LIKE '~%'";
    assert_eq!(connection.query_row(sealed, [], |row| row.get::<_, String>(0)), Ok("another".to_owned()));

    confide(&PostgresStorage::open(&database.config()).await.unwrap()).await;
    let storage = PostgresStorage::open_with(&database.config(), &cipher(NEW, &[])).await.unwrap();
    remember(&storage).await;
    put_item(&storage, "another").await;
    assert_eq!(items(&storage).await.unwrap(), 2);
    assert!(!tables_with_it(&database).await.is_empty());
    let sealed = "SELECT string_agg(key, ',') FROM item WHERE value LIKE '~%'";
    let sealed = database.client().await.query_one(sealed, &[]).await.unwrap();
    assert_eq!(sealed.get::<_, Option<String>>(0).as_deref(), Some("another"));
}

#[tokio::test]
async fn a_value_that_was_moved_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let open = || SqliteStorage::open_with(folder.path(), &cipher(NEW, &[])).unwrap();
    let storage = open();
    put_item(&storage, "a").await;
    put_item(&storage, "b").await;
    drop(storage);
    let connection = rusqlite::Connection::open(folder.path().join("threadyard.db")).unwrap();
    let moved = "UPDATE item SET value = (SELECT value FROM item WHERE key = 'a') WHERE key = 'b'";
    assert_eq!(connection.execute(moved, []).unwrap(), 1);
    drop(connection);
    let refused = items(&open()).await.unwrap_err().to_string();
    assert!(refused.contains("written for another place"), "{refused}");
}
