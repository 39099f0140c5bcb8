//! A SQLite database at rest, as one end of an import.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream, stream::BoxStream};
use rusqlite::{OpenFlags, OptionalExtension, Row as SqliteRow, params, params_from_iter, types};
use threadyard_core::storage::StorageError;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    Connection, Done, FILE, connect, known_keys, open,
    rows::{lineage_key, lineage_name},
};
use crate::{
    cipher::Cipher,
    transfer::{
        Begun, Extent, Mark, Origin, Resting, TransferError, Use, sealing,
        tables::{Column, Kind, MADE_AT_START, TABLES, Table},
        values::{Batch, Key, Row, Value},
    },
};

type Result<T, E = TransferError> = std::result::Result<T, E>;

/// How far an unfinished import is. The table is there for as long as there is one.
const MARKS: &str = "CREATE TABLE transfer (
    noun TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    rows INTEGER NOT NULL,
    last TEXT
)";

/// A database in a folder that is locked.
pub(crate) struct RestingSqlite {
    file: PathBuf,
    cipher: Cipher,
    held: Arc<Mutex<Held>>,
}

/// Whatever is still being done holds the lock as well.
struct Held {
    connection: Connection,
    _lock: File,
}

impl RestingSqlite {
    /// Opens the database in a folder, or the one that is named itself.
    pub(crate) fn open(place: &Path, wanted: Use, cipher: &Cipher) -> Result<Self> {
        let is_file = place.is_file();
        let file = if is_file { place.to_owned() } else { place.join(FILE) };
        if wanted == Use::Read && !file.is_file() {
            return Err(TransferError::Missing(place.display().to_string()));
        }
        let (lock, connection) = open(&file, cipher)?;
        let known = known_keys::known(&connection).map_err(StorageError::from)?;
        let name = || file.display().to_string();
        cipher.admit(&known).map_err(|source| TransferError::Keys { name: name(), source })?;
        let held = Arc::new(Mutex::new(Held { connection, _lock: lock }));
        Ok(Self { file, cipher: cipher.clone(), held })
    }

    /// Does something in a transaction, where blocking is allowed.
    async fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Done<T> + Send + 'static,
    ) -> Result<T> {
        let held = self.held.clone();
        let transacted = move || {
            let held = held.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = held.connection.unchecked_transaction()?;
            let outcome = work(&held.connection)?;
            transaction.commit()?;
            Ok(outcome)
        };
        let done: Done<T> = tokio::task::spawn_blocking(transacted)
            .await
            .unwrap_or_else(|error| Err(StorageError::Bug(error.to_string()).into()));
        Ok(done.map_err(StorageError::from)?)
    }
}

/// Where an import comes from that has not been finished.
pub(super) fn unfinished(connection: &rusqlite::Connection) -> rusqlite::Result<Option<String>> {
    if !connection.table_exists(None, "transfer")? {
        return Ok(None);
    }
    connection.query_row("SELECT source FROM transfer", [], |row| row.get(0)).optional()
}

#[async_trait]
impl Resting for RestingSqlite {
    fn name(&self) -> String {
        self.file.display().to_string()
    }

    async fn extent(&self, table: &'static Table) -> Result<Extent> {
        self.transact(|connection| {
            let count = format!("SELECT count(*) FROM {}", table.name);
            let rows: i64 = connection.query_row(&count, [], |row| row.get(0))?;
            let last = format!("{} ORDER BY {} LIMIT 1", select(table), order(table, " DESC"));
            let last = connection.prepare(&last)?.query([])?.next()?.map(|row| values(table, row)).transpose()?;
            Ok(Extent { rows: rows.unsigned_abs(), last })
        })
        .await
    }

    async fn rows(&self, table: &'static Table, after: Option<Key>) -> Result<BoxStream<'static, Result<Batch>>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = connect(&self.file, flags, &self.cipher).map_err(|error| super::failure(&error))?;
        let (batches, mut read) = mpsc::channel(1);
        tokio::task::spawn_blocking(move || {
            if let Err(failed) = send(&connection, table, after, &batches) {
                let _ = batches.blocking_send(Err(StorageError::from(failed).into()));
            }
        });
        Ok(stream::poll_fn(move |context| read.poll_recv(context)).boxed())
    }

    async fn occupied(&self) -> Result<Vec<&'static str>> {
        self.transact(|connection| {
            let mut occupied = Vec::new();
            for table in &TABLES {
                let usual = MADE_AT_START.iter().find(|(name, _)| *name == table.name);
                let any = format!("SELECT EXISTS (SELECT 1 FROM {})", table.name);
                if connection.query_row(usual.map_or(&any, |(_, more)| more), [], |row| row.get(0))? {
                    occupied.push(table.noun);
                }
            }
            Ok(occupied)
        })
        .await
    }

    async fn begun(&self) -> Result<Option<Begun>> {
        self.transact(|connection| {
            if unfinished(connection)?.is_none() {
                return Ok(None);
            }
            let mut query = connection.prepare("SELECT source, fingerprint, noun, rows, last FROM transfer")?;
            let mut rows = query.query([])?;
            let mut begun = None;
            while let Some(row) = rows.next()? {
                let origin = Origin { name: row.get(0)?, fingerprint: row.get(1)? };
                let begun = begun.get_or_insert(Begun { origin, marks: Vec::new() });
                begun.marks.push(Mark::read(row.get(2)?, row.get(3)?, row.get::<_, Option<String>>(4)?.as_deref())?);
            }
            Ok(begun)
        })
        .await
    }

    async fn begin(&self, origin: &Origin) -> Result<()> {
        let Origin { name, fingerprint } = origin.clone();
        self.transact(move |connection| {
            for (table, _) in MADE_AT_START {
                connection.execute(&format!("DELETE FROM {table}"), [])?;
            }
            connection.execute(MARKS, [])?;
            for table in &TABLES {
                let insert = "INSERT INTO transfer (noun, source, fingerprint, rows) VALUES (?1, ?2, ?3, 0)";
                connection.execute(insert, params![table.name, name, fingerprint])?;
            }
            Ok(())
        })
        .await
    }

    async fn note_key(&self) -> Result<()> {
        let noted = self.transact(|connection| {
            let new = match connection.cipher().admit(&known_keys::known(connection)?) {
                Ok(new) => new,
                Err(mismatch) => return Ok(Err(mismatch)),
            };
            new.iter().try_for_each(|new| known_keys::add(connection, new)).map(Ok)
        });
        noted.await?.map_err(|source| TransferError::Keys { name: self.name(), source })
    }

    async fn admit_embeddings(&self) -> Result<Result<(), String>> {
        Ok(Ok(()))
    }

    async fn write(&self, table: &'static Table, batch: Batch, (before, after): (Mark, Mark)) -> Result<()> {
        let moved = self.transact(move |connection| {
            insert(connection, table, batch)?;
            let mut update =
                connection.prepare_cached("UPDATE transfer SET rows = ?2, last = ?3 WHERE noun = ?1 AND rows = ?4")?;
            let rows = [after.rows, before.rows].map(u64::cast_signed);
            Ok(update.execute(params![table.name, rows[0], after.stored()?, rows[1]])? == 1)
        });
        if moved.await? { Ok(()) } else { Err(TransferError::Overtaken(self.name())) }
    }

    async fn finish(&self) -> Result<()> {
        self.transact(|connection| Ok(connection.execute("DROP TABLE transfer", []).map(drop)?)).await?;
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // A database at rest is one file.
        let moved = held.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        Ok(moved.map_err(|error| super::failure(&error))?)
    }
}

fn insert(connection: &Connection, table: &'static Table, batch: Batch) -> Done<()> {
    let names: Vec<_> = table.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let places = vec!["?"; names.len()].join(", ");
    let sql = format!("INSERT INTO {} ({}) VALUES ({places})", table.name, names.join(", "));
    let mut insert = connection.prepare_cached(&sql)?;
    for mut row in batch.rows {
        sealing::seal(connection.cipher(), table, &mut row)?;
        let columns = row.into_iter().zip(table.columns).map(|(value, column)| stored(value, *column));
        insert.execute(params_from_iter(columns.collect::<Done<Vec<_>>>()?))?;
    }
    Ok(())
}

/// Sends all rows behind a key, until nobody wants any more.
fn send(
    connection: &Connection,
    table: &'static Table,
    after: Option<Key>,
    batches: &mpsc::Sender<Result<Batch>>,
) -> Done<()> {
    let keys = order(table, "");
    let places = vec!["?"; table.key.max(1)].join(", ");
    let behind = after.as_ref().map(|_| format!("WHERE ({keys}) > ({places})")).unwrap_or_default();
    let mut query = connection.prepare(&format!("{} {behind} ORDER BY {keys}", select(table)))?;
    let columns = if table.key == 0 { &[("rowid", Kind::Integer)] } else { table.keys() };
    let after = after.unwrap_or_default().into_iter().zip(columns).map(|(value, column)| stored(value, *column));
    let mut rows = query.query(params_from_iter(after.collect::<Done<Vec<_>>>()?))?;
    let mut batch = Batch::default();
    while let Some(row) = rows.next()? {
        let mut read = values(table, row)?;
        sealing::open(connection.cipher(), table, &mut read)?;
        let key = if table.key == 0 { vec![Value::Integer(row.get("place")?)] } else { read[..table.key].to_vec() };
        table.lay_to_rest(&mut read);
        if batch.push(read, key) && batches.blocking_send(Ok(std::mem::take(&mut batch))).is_err() {
            return Ok(());
        }
    }
    if !batch.rows.is_empty() {
        let _ = batches.blocking_send(Ok(batch));
    }
    Ok(())
}

fn select(table: &Table) -> String {
    let names: Vec<_> = table.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let place = if table.key == 0 { ", rowid AS place" } else { "" };
    let owner = sealing::owner(table).map(|(owner, _)| format!(", {owner}")).unwrap_or_default();
    format!("SELECT {}{owner}{place} FROM {}", names.join(", "), table.name)
}

fn order(table: &Table, direction: &str) -> String {
    let names = table.keys().iter().map(|(name, _)| *name);
    let names: Vec<_> = if table.key == 0 { vec!["rowid"] } else { names.collect() };
    names.into_iter().map(|name| format!("{name}{direction}")).collect::<Vec<_>>().join(", ")
}

/// What a row of a table holds.
fn values(table: &Table, row: &SqliteRow<'_>) -> Done<Row> {
    let owner = sealing::owner(table);
    table.columns.iter().chain(&owner).enumerate().map(|(place, column)| value(row, place, *column)).collect()
}

fn value(row: &SqliteRow<'_>, place: usize, (_, kind): Column) -> Done<Value> {
    let value = match kind {
        // Where the other database says no, this one may say nothing.
        Kind::Flag => Some(Value::Flag(row.get::<_, Option<bool>>(place)?.unwrap_or_default())),
        Kind::Integer => row.get::<_, Option<i64>>(place)?.map(Value::Integer),
        Kind::Id => row.get::<_, Option<[u8; 16]>>(place)?.map(|id| Value::Id(Uuid::from_bytes(id))),
        Kind::Text | Kind::Json => row.get::<_, Option<String>>(place)?.map(Value::Text),
        Kind::Bytes | Kind::Vector => row.get::<_, Option<Vec<u8>>>(place)?.map(Value::Bytes),
        Kind::Thread => Some(Value::Text(lineage_name(row.get(place)?)?)),
        Kind::Labels => Some(Value::Labels(serde_json::from_str(&row.get::<_, String>(place)?)?)),
    };
    Ok(value.unwrap_or(Value::Null))
}

/// A value as a column holds it.
fn stored(value: Value, (_, kind): Column) -> Done<types::Value> {
    Ok(match value {
        Value::Null => types::Value::Null,
        Value::Integer(number) => types::Value::Integer(number),
        Value::Flag(flag) => types::Value::Integer(flag.into()),
        Value::Id(id) => types::Value::Blob(id.as_bytes().to_vec()),
        Value::Text(text) if kind == Kind::Thread => lineage_key(&text),
        Value::Text(text) => types::Value::Text(text),
        Value::Bytes(bytes) => types::Value::Blob(bytes),
        Value::Labels(labels) => types::Value::Text(serde_json::to_string(&labels)?),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_column_of_every_table_goes_over() {
        let folder = tempfile::tempdir().unwrap();
        let (_lock, connection) = open(&folder.path().join(FILE), &Cipher::none()).unwrap();
        let sql = "SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c WHERE m.type = 'table'
                 AND m.name NOT LIKE 'sqlite_%' AND m.name NOT IN ('refinery_schema_history', 'thread_tag', 'encryption_key')";
        let mut query = connection.prepare(sql).unwrap();
        let found = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let found: BTreeSet<(String, String)> = found.map(Result::unwrap).collect();
        let column = |table: &Table, (name, _): &Column| (table.name.to_owned(), (*name).to_owned());
        let known = TABLES.iter().flat_map(|table| table.columns.iter().map(move |it| column(table, it)));
        assert_eq!(known.collect::<BTreeSet<_>>(), found);
    }
}
