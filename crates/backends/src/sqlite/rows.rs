//! How our types look in columns, and how rows become our types again.

use rusqlite::{
    CachedStatement, Row,
    types::{ToSql, Value},
};
use serde::de::DeserializeOwned;
use threadyard_core::{
    ids::{AssistantId, CronId, LeaseId, RecoveryId, RunId, ThreadId},
    json::{Object, RawJson, raw_from_text},
    runs::Run,
    storage::StorageError,
    time::Timestamp,
};
use uuid::Uuid;

use super::{Connection, Done};
use crate::cipher::Place;

/// An id as its sixteen bytes.
pub(super) fn key(id: impl Into<Uuid16>) -> [u8; 16] {
    id.into().0
}

pub(super) struct Uuid16([u8; 16]);

macro_rules! sixteen {
    ($($id:ty),*) => {$(
        impl From<$id> for Uuid16 {
            fn from(id: $id) -> Self {
                Self(*id.0.as_bytes())
            }
        }
    )*};
}
sixteen!(AssistantId, CronId, LeaseId, RecoveryId, RunId, ThreadId);

/// The name of a checkpoint's thread: sixteen bytes when it is a UUID, its text otherwise.
pub(super) fn lineage_key(thread: &str) -> Value {
    match Uuid::parse_str(thread) {
        Ok(id) if id.hyphenated().to_string() == thread => Value::Blob(id.as_bytes().to_vec()),
        _ => Value::Text(thread.to_owned()),
    }
}

/// The thread that a key names.
pub(super) fn lineage_name(key: Value) -> Done<String> {
    match key {
        Value::Text(text) => Ok(text),
        Value::Blob(bytes) if bytes.len() == 16 => {
            Ok(Uuid::from_slice(&bytes).unwrap_or_default().hyphenated().to_string())
        }
        other => {
            let why = "the key is neither a UUID nor a text".into();
            Err(StorageError::Corrupt { table: "lineage", row: format!("{other:?}"), why }.into())
        }
    }
}

pub(super) fn uuid(row: &Row<'_>, column: &str) -> rusqlite::Result<Uuid> {
    row.get::<_, [u8; 16]>(column).map(Uuid::from_bytes)
}

pub(super) fn time(row: &Row<'_>, column: &str) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp)
}

pub(super) fn object(table: &'static str, row: &Row<'_>, column: &str) -> Done<Object> {
    decoded(table, row, column)
}

/// A column that holds JSON of a known shape.
pub(super) fn decoded<T: DeserializeOwned>(table: &'static str, row: &Row<'_>, column: &str) -> Done<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| corrupt(table, row, format!("{column}: {error}")).into())
}

/// A column that holds a word of one of our enums.
pub(super) fn word<T: DeserializeOwned>(table: &'static str, row: &Row<'_>, column: &str) -> Done<T> {
    let text: String = row.get(column)?;
    serde_json::from_value(text.into()).map_err(|error| corrupt(table, row, format!("{column}: {error}")).into())
}

/// A column that holds JSON nobody looks into, or null.
pub(super) fn json(table: &'static str, row: &Row<'_>, column: &str) -> Done<Option<RawJson>> {
    let text: Option<String> = row.get(column)?;
    text.map(raw_from_text).transpose().map_err(|error| corrupt(table, row, format!("{column}: {error}")).into())
}

/// A sealed column that holds JSON nobody looks into, or null.
pub(super) fn opened(connection: &Connection, row: &Row<'_>, place: Place<'_>) -> Done<Option<RawJson>> {
    let Some(stored) = row.get(place.column())? else { return Ok(None) };
    let opened = raw_from_text(connection.cipher().open_text(place, stored)?);
    opened.map(Some).map_err(|error| corrupt(place.table(), row, format!("{}: {error}", place.column())).into())
}

/// A sealed column that holds JSON of a known shape.
pub(super) fn opened_as<T: DeserializeOwned>(connection: &Connection, row: &Row<'_>, place: Place<'_>) -> Done<T> {
    let opened = connection.cipher().open_text(place, row.get(place.column())?)?;
    serde_json::from_str(&opened)
        .map_err(|error| corrupt(place.table(), row, format!("{}: {error}", place.column())).into())
}

pub(super) fn text(json: &RawJson) -> &str {
    json.get()
}

/// A word of one of our enums, for a column.
pub(super) fn name(word: &impl serde::Serialize) -> Done<String> {
    match serde_json::to_value(word)? {
        serde_json::Value::String(name) => Ok(name),
        other => Err(StorageError::Bug(format!("{other} is not a word")).into()),
    }
}

fn corrupt(table: &'static str, row: &Row<'_>, why: String) -> StorageError {
    let id: [u8; 16] = row.get("id").unwrap_or_default();
    StorageError::Corrupt { table, row: Uuid::from_bytes(id).to_string(), why }
}

pub(super) fn run(connection: &Connection, row: &Row<'_>) -> Done<Run> {
    let id = uuid(row, "id")?;
    Ok(Run {
        run_id: RunId(id),
        thread_id: ThreadId(uuid(row, "thread_id")?),
        assistant_id: AssistantId(uuid(row, "assistant_id")?),
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        status: word("run", row, "status")?,
        metadata: object("run", row, "metadata")?,
        kwargs: opened_as(connection, row, Place::Run("kwargs", id))?,
        multitask_strategy: word("run", row, "multitask")?,
        langsmith_session_name: None,
        graph_id: row.get("graph_id")?,
        attempt: row.get("attempt")?,
        uncounted: row.get("uncounted")?,
        shared_losses: row.get("shared_losses")?,
        started_at: row.get::<_, Option<i64>>("started_at")?.map(Timestamp),
        error: opened(connection, row, Place::Run("error", id))?,
    })
}

/// Reads every row of a query.
pub(super) fn all<T>(
    statement: &mut CachedStatement<'_>,
    parameters: &[&dyn ToSql],
    mut read: impl FnMut(&Row<'_>) -> Done<T>,
) -> Done<Vec<T>> {
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Reads the first row of a query, if there is one.
pub(super) fn first<T>(
    statement: &mut CachedStatement<'_>,
    parameters: &[&dyn ToSql],
    read: impl FnOnce(&Row<'_>) -> Done<T>,
) -> Done<Option<T>> {
    let mut rows = statement.query(parameters)?;
    rows.next()?.map(read).transpose()
}
