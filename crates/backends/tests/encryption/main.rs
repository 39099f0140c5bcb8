//! What is encrypted at rest: nothing that users say is found in the database, and only its keys open it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod confided;
#[path = "../postgres/database.rs"]
#[expect(dead_code, reason = "these tests need less of it")]
mod database;
mod keys;
mod moving;
#[path = "../postgres/server.rs"]
mod server;

use std::path::Path;

use threadyard_backends::{AesKey, Cipher, PostgresStorage, SqliteStorage};

use confided::{SECRET, confide, copy, remember, tell};
use database::Database;

const OLD: &str = "a key of twenty-four ch.";
const NEW: &str = "a key of 32 bytes, as it must be";

fn key(text: &str) -> AesKey {
    AesKey::read("LANGGRAPH_AES_KEY", text).unwrap()
}

fn cipher(current: &str, older: &[&str]) -> Cipher {
    Cipher::new(key(current), older.iter().map(|text| key(text)).collect())
}

/// Whether a secret can be read in any of the files of a folder.
fn is_in_files(folder: &Path) -> bool {
    let files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.iter().any(|file| file.ends_with("threadyard.db")));
    let found = |file: &std::path::PathBuf| std::fs::read(file).unwrap().windows(SECRET.len()).any(is_secret);
    files.iter().any(found)
}

fn is_secret(bytes: &[u8]) -> bool {
    let spelled = |blank: &str| SECRET.replace(' ', blank);
    [" ", "-", "+"].iter().any(|blank| bytes == spelled(blank).as_bytes())
}

/// The tables of a database in which a secret can be read.
async fn tables_with_it(database: &Database) -> Vec<String> {
    let client = database.client().await;
    let tables = client.query("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'", &[]).await.unwrap();
    let mut found = Vec::new();
    for table in tables.iter().map(|row| row.get::<_, String>(0)) {
        let spelled = |blank: &str| SECRET.replace(' ', blank);
        let in_hex: String = SECRET.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let sql = format!("SELECT count(*) FROM {table} AS it WHERE it::text ~ $1");
        let pattern = format!("{}|{}|{}|{in_hex}", spelled(" "), spelled("-"), spelled("[+]"));
        if client.query_one(&sql, &[&pattern]).await.unwrap().get::<_, i64>(0) > 0 {
            found.push(table);
        }
    }
    found
}

#[tokio::test]
async fn nothing_that_users_say_is_in_the_files_of_sqlite() {
    for (cipher, is_plain) in [(Cipher::none(), true), (cipher(NEW, &[]), false)] {
        let folder = tempfile::tempdir().unwrap();
        let storage = SqliteStorage::open_with(folder.path(), &cipher).unwrap();
        confide(&storage).await;
        assert_eq!(is_in_files(folder.path()), is_plain, "while the server runs");
        remember(&storage).await;
        tell(&storage).await;
        copy(&storage).await;
        drop(storage);
        assert_eq!(is_in_files(folder.path()), is_plain);
    }
}

#[tokio::test]
async fn nothing_that_users_say_is_in_the_tables_of_postgres() {
    for cipher in [Cipher::none(), cipher(NEW, &[])] {
        let database = Database::new().await;
        let storage = PostgresStorage::open_with(&database.config(), &cipher).await.unwrap();
        confide(&storage).await;
        remember(&storage).await;
        tell(&storage).await;
        copy(&storage).await;
        let found = tables_with_it(&database).await;
        // Without a key it is there, or this test would show nothing.
        let all = ["blob", "checkpoint", "cron", "delivery", "event", "item", "pending_write", "run", "thread"];
        let expected: &[&str] = if cipher.key_id().is_none() { &all } else { &[] };
        assert!(expected.iter().all(|table| found.iter().any(|it| it == table)), "{found:?}");
        assert!(!expected.is_empty() || found.is_empty(), "{found:?}");
    }
}
