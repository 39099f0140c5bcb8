//! API keys in SQLite. Whoever looks after them need not be the server that has the data folder.

use std::{
    fs::File,
    path::Path,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use rusqlite::{OpenFlags, Row, params};
use threadyard_core::{
    api_keys::{ApiKey, ApiKeys, KeyDigest},
    storage::Result,
    time::Timestamp,
};

use super::{
    Connection, Done, FILE, OpenError, SqliteStorage, connect, embedded, open,
    rows::{all, decoded, first, time},
};
use crate::cipher::Cipher;

#[async_trait]
impl ApiKeys for SqliteStorage {
    async fn create_api_key(&self, key: ApiKey, digest: KeyDigest) -> Result<bool> {
        self.writer.write(move |connection| create(connection, &key, digest)).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        self.readers.read(list).await
    }

    async fn api_key(&self, id: &str) -> Result<Option<(ApiKey, KeyDigest)>> {
        let id = id.to_owned();
        self.readers.look_up(move |connection| find(connection, &id)).await
    }

    async fn revoke_api_key(&self, id: &str, now: Timestamp) -> Result<bool> {
        let id = id.to_owned();
        self.writer.write(move |connection| revoke(connection, &id, now)).await
    }

    async fn note_use_of_api_key(&self, id: &str, now: Timestamp, noted_after: Timestamp) -> Result<()> {
        let id = id.to_owned();
        self.writer.write(move |connection| note_use(connection, &id, now, noted_after)).await
    }
}

/// The keys in a data folder, which a server may have open at the same time.
pub struct KeyFolder {
    connection: Mutex<Connection>,
    /// Keeps servers from starting meanwhile, where none has.
    _lock: Option<File>,
}

impl KeyFolder {
    /// Opens the keys. Tables are brought up to date unless a server has them, which must then be of this version.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let file = folder.join(FILE);
        match open(&file, &Cipher::none()) {
            Ok((lock, connection)) => Ok(Self { connection: Mutex::new(connection), _lock: Some(lock) }),
            Err(OpenError::InUse(_)) => {
                let database = |why: String| OpenError::Database { file: file.clone(), why };
                let mut connection = connect(&file, OpenFlags::default(), &Cipher::none())
                    .map_err(|error| database(error.to_string()))?;
                if !is_current(&mut connection).map_err(|error| database(error.to_string()))? {
                    let why = "the server that has it is of another version; use its own `threadyard keys`";
                    return Err(database(why.into()));
                }
                Ok(Self { connection: Mutex::new(connection), _lock: None })
            }
            Err(error) => Err(error),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&Connection) -> Done<T>) -> Result<T> {
        Ok(work(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))?)
    }
}

#[async_trait]
impl ApiKeys for KeyFolder {
    async fn create_api_key(&self, key: ApiKey, digest: KeyDigest) -> Result<bool> {
        self.with(|connection| create(connection, &key, digest))
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        self.with(list)
    }

    async fn api_key(&self, id: &str) -> Result<Option<(ApiKey, KeyDigest)>> {
        self.with(|connection| find(connection, id))
    }

    async fn revoke_api_key(&self, id: &str, now: Timestamp) -> Result<bool> {
        self.with(|connection| revoke(connection, id, now))
    }

    async fn note_use_of_api_key(&self, id: &str, now: Timestamp, noted_after: Timestamp) -> Result<()> {
        self.with(|connection| note_use(connection, id, now, noted_after))
    }
}

fn is_current(connection: &mut Connection) -> Result<bool, refinery::Error> {
    let runner = embedded::migrations::runner();
    let newest = runner.get_migrations().iter().map(refinery::Migration::version).max();
    let applied = runner.get_last_applied_migration(&mut **connection)?;
    Ok(applied.map(|migration| migration.version()) == newest)
}

fn create(connection: &Connection, key: &ApiKey, digest: KeyDigest) -> Done<bool> {
    let made = connection
        .prepare_cached(
            "INSERT INTO api_key (id, name, identity, scopes, digest, created_at, expires_at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS (
                 SELECT 1 FROM api_key
                 WHERE name = ?2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?6))",
        )?
        .execute(params![
            key.id,
            key.name,
            key.identity,
            serde_json::to_string(&key.scopes)?,
            digest.0,
            key.created_at.0,
            key.expires_at.map(|end| end.0),
        ])?;
    Ok(made > 0)
}

fn list(connection: &Connection) -> Done<Vec<ApiKey>> {
    let mut query = connection.prepare_cached("SELECT * FROM api_key ORDER BY created_at DESC, id")?;
    all(&mut query, &[], api_key)
}

fn find(connection: &Connection, id: &str) -> Done<Option<(ApiKey, KeyDigest)>> {
    let mut query = connection.prepare_cached("SELECT * FROM api_key WHERE id = ?1")?;
    first(&mut query, &[&id], |row| Ok((api_key(row)?, KeyDigest(row.get("digest")?))))
}

fn revoke(connection: &Connection, id: &str, now: Timestamp) -> Done<bool> {
    let revoked = connection
        .prepare_cached("UPDATE api_key SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1")?
        .execute(params![id, now.0])?;
    Ok(revoked > 0)
}

fn note_use(connection: &Connection, id: &str, now: Timestamp, noted_after: Timestamp) -> Done<()> {
    connection
        .prepare_cached(
            "UPDATE api_key SET last_used_at = ?2 WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at <= ?3)",
        )?
        .execute(params![id, now.0, noted_after.0])?;
    Ok(())
}

fn api_key(row: &Row<'_>) -> Done<ApiKey> {
    let moment = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp));
    Ok(ApiKey {
        id: row.get("id")?,
        name: row.get("name")?,
        identity: row.get("identity")?,
        scopes: decoded("api_key", row, "scopes")?,
        created_at: time(row, "created_at")?,
        expires_at: moment("expires_at")?,
        revoked_at: moment("revoked_at")?,
        last_used_at: moment("last_used_at")?,
    })
}
