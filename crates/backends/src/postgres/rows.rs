//! How our types look in columns, and how rows become our types again.

use std::{borrow::Cow, error::Error};

use bytes::BytesMut;
use futures_util::try_join;
use serde::de::DeserializeOwned;
use threadyard_core::{
    ids::{AssistantId, RunId, ThreadId},
    json::{Object, RawJson, raw_from_text},
    runs::Run,
    storage::StorageError,
    time::Timestamp,
};
use tokio_postgres::{
    Row,
    row::RowIndex,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};
use uuid::Uuid;

use super::{
    Client,
    failures::{Done, is_outdated},
};
use crate::cipher::{Cipher, Place};

/// What stands for a `$n`.
pub(super) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// A text that may be anything: a NUL, which no column can hold, becomes two characters that stand for it.
#[derive(Debug)]
pub(super) struct Text<'a>(pub(super) &'a str);

/// Stands before what is not itself.
const ESCAPE: char = '\u{ffff}';

impl ToSql for Text<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(escaped(self.0).as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        <&str as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

/// A text as a column holds it.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if text.contains(['\0', ESCAPE]) {
        Cow::Owned(text.replace(ESCAPE, "\u{ffff}1").replace('\0', "\u{ffff}0"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The text that a column holds.
pub(super) fn unescaped(stored: &str) -> String {
    if stored.contains(ESCAPE) {
        stored.replace("\u{ffff}0", "\0").replace("\u{ffff}1", "\u{ffff}")
    } else {
        stored.to_owned()
    }
}

pub(super) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: impl RowIndex + std::fmt::Display) -> Done<T> {
    Ok(row.try_get(column)?)
}

/// A text that was stored as `Text`.
pub(super) fn string(row: &Row, column: &str) -> Done<String> {
    Ok(unescaped(get(row, column)?))
}

/// The same where it may be missing.
pub(super) fn optional_string(row: &Row, column: &str) -> Done<Option<String>> {
    Ok(get::<Option<&str>>(row, column)?.map(unescaped))
}

pub(super) fn uuid(row: &Row, column: &str) -> Done<Uuid> {
    get(row, column)
}

pub(super) fn time(row: &Row, column: &str) -> Done<Timestamp> {
    get(row, column).map(Timestamp)
}

pub(super) fn optional_time(row: &Row, column: &str) -> Done<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp))
}

/// A number that is never negative.
pub(super) fn count(row: &Row, column: &str) -> Done<u32> {
    Ok(get::<i32>(row, column)?.unsigned_abs())
}

pub(super) fn object(table: &'static str, row: &Row, column: &str) -> Done<Object> {
    decoded(table, row, column)
}

/// A column that holds JSON of a known shape.
pub(super) fn decoded<T: DeserializeOwned>(table: &'static str, row: &Row, column: &str) -> Done<T> {
    serde_json::from_str(get(row, column)?).map_err(|error| corrupt(table, row, format!("{column}: {error}")).into())
}

/// A column that holds a word of one of our enums.
pub(super) fn word<T: DeserializeOwned>(table: &'static str, row: &Row, column: &str) -> Done<T> {
    let text: String = get(row, column)?;
    serde_json::from_value(text.into()).map_err(|error| corrupt(table, row, format!("{column}: {error}")).into())
}

/// A column that holds JSON nobody looks into, or null.
pub(super) fn json(table: &'static str, row: &Row, column: &str) -> Done<Option<RawJson>> {
    let text: Option<String> = get(row, column)?;
    text.map(raw_from_text).transpose().map_err(|error| corrupt(table, row, format!("{column}: {error}")).into())
}

/// A sealed column that holds JSON nobody looks into, or null.
pub(super) fn opened(cipher: &Cipher, row: &Row, place: Place<'_>) -> Done<Option<RawJson>> {
    let Some(stored) = get(row, place.column())? else { return Ok(None) };
    let opened = raw_from_text(cipher.open_text(place, stored)?);
    opened.map(Some).map_err(|error| corrupt(place.table(), row, format!("{}: {error}", place.column())).into())
}

/// A sealed column that holds JSON of a known shape.
pub(super) fn opened_as<T: DeserializeOwned>(cipher: &Cipher, row: &Row, place: Place<'_>) -> Done<T> {
    let opened = cipher.open_text(place, get(row, place.column())?)?;
    serde_json::from_str(&opened)
        .map_err(|error| corrupt(place.table(), row, format!("{}: {error}", place.column())).into())
}

/// A word of one of our enums, for a column.
pub(super) fn name(word: &impl serde::Serialize) -> Done<String> {
    match serde_json::to_value(word)? {
        serde_json::Value::String(name) => Ok(name),
        other => Err(StorageError::Bug(format!("{other} is not a word")).into()),
    }
}

fn corrupt(table: &'static str, row: &Row, why: String) -> StorageError {
    let id: Uuid = row.try_get("id").unwrap_or_default();
    StorageError::Corrupt { table, row: id.to_string(), why }
}

pub(super) fn run(cipher: &Cipher, row: &Row) -> Done<Run> {
    let id = uuid(row, "id")?;
    Ok(Run {
        run_id: RunId(id),
        thread_id: ThreadId(uuid(row, "thread_id")?),
        assistant_id: AssistantId(uuid(row, "assistant_id")?),
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        status: word("run", row, "status")?,
        metadata: object("run", row, "metadata")?,
        kwargs: opened_as(cipher, row, Place::Run("kwargs", id))?,
        multitask_strategy: word("run", row, "multitask")?,
        langsmith_session_name: None,
        graph_id: string(row, "graph_id")?,
        attempt: count(row, "attempt")?,
        uncounted: count(row, "uncounted")?,
        shared_losses: count(row, "shared_losses")?,
        started_at: optional_time(row, "started_at")?,
        error: opened(cipher, row, Place::Run("error", id))?,
    })
}

/// Reads every row of a query.
pub(super) async fn all(client: &Client, sql: &str, parameters: &[Parameter<'_>]) -> Done<Vec<Row>> {
    let read = async || client.query(&client.prepare_cached(sql).await?, parameters).await;
    match read().await {
        // A newer server has changed the table. Within a transaction this comes too late, and that is done again.
        Err(error) if is_outdated(&error) => {
            client.statement_cache.remove(sql, &[]);
            Ok(read().await.map_err(|_| error)?)
        }
        outcome => Ok(outcome?),
    }
}

/// Does two statements in this order, which travel together.
pub(super) async fn both(
    client: &Client,
    (before, before_parameters): (&str, &[Parameter<'_>]),
    (after, after_parameters): (&str, &[Parameter<'_>]),
) -> Done<(Vec<Row>, Vec<Row>)> {
    // One that is still to be prepared would be overtaken by the other.
    try_join!(client.prepare_cached(before), client.prepare_cached(after))?;
    try_join!(all(client, before, before_parameters), all(client, after, after_parameters))
}

/// Reads the first row of a query, if there is one.
pub(super) async fn first(client: &Client, sql: &str, parameters: &[Parameter<'_>]) -> Done<Option<Row>> {
    Ok(all(client, sql, parameters).await?.into_iter().next())
}

/// Reads the row of a query that always has one.
pub(super) async fn one(client: &Client, sql: &str, parameters: &[Parameter<'_>]) -> Done<Row> {
    let row = first(client, sql, parameters).await?;
    row.ok_or_else(|| StorageError::Bug("a query that always has a row had none".into()).into())
}

/// Does a statement, and says how many rows it changed.
pub(super) async fn execute(client: &Client, sql: &str, parameters: &[Parameter<'_>]) -> Done<u64> {
    Ok(client.execute(&client.prepare_cached(sql).await?, parameters).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back() {
        for text in ["", "plain", "\0", "a\0b\u{ffff}c", "\u{ffff}0", "\u{ffff}1\0", "\u{ffff}\u{ffff}"] {
            let stored = escaped(text);
            assert!(!stored.contains('\0'));
            assert_eq!(unescaped(&stored), text);
        }
    }
}
