//! The keys that values of the database are sealed with.

use std::path::Path;

use rusqlite::params;
use threadyard_core::storage::StorageError;

use super::{Connection, Done, OpenError};
use crate::cipher::{KeyMismatch, KnownKey};

/// Finds them among those of this server, and adds its own. A database that it can't read is not served.
pub(super) fn admit(connection: &Connection, folder: &Path) -> Result<(), OpenError> {
    let failed =
        |error| OpenError::Database { file: folder.join(super::FILE), why: StorageError::from(error).to_string() };
    let known = known(connection).map_err(failed)?;
    let refused = |source: KeyMismatch| OpenError::Keys { folder: folder.into(), source };
    let new = connection.cipher().admit(&known).map_err(refused)?;
    new.iter().try_for_each(|key| add(connection, key)).map_err(failed)
}

pub(super) fn known(connection: &Connection) -> Done<Vec<KnownKey>> {
    let mut query = connection.prepare("SELECT id, sealed FROM encryption_key ORDER BY k")?;
    let mut rows = query.query([])?;
    let mut known = Vec::new();
    while let Some(row) = rows.next()? {
        known.push(KnownKey { id: row.get(0)?, sealed: row.get(1)? });
    }
    Ok(known)
}

pub(super) fn add(connection: &Connection, key: &KnownKey) -> Done<()> {
    connection.execute("INSERT INTO encryption_key (id, sealed) VALUES (?1, ?2)", params![key.id, key.sealed])?;
    Ok(())
}
