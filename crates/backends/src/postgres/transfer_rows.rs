//! What rows hold, as PostgreSQL's columns have it.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use threadyard_core::{json::Object, storage::StorageError};
use tokio_postgres::{
    Row as PostgresRow,
    types::{IsNull, ToSql, Type, to_sql_checked},
};
use uuid::Uuid;

use super::{
    ending::is_plain,
    failures::Done,
    rows::{Text, get, unescaped},
    thread_search::tags,
};
use crate::{
    documents::needs_parent,
    transfer::{
        sealing,
        tables::{Column, Kind, Table},
        values::{Row, Value},
    },
};

/// A value as a column of its kind holds it.
#[derive(Debug)]
pub(super) struct Stored<'a>(pub(super) &'a Value, pub(super) Kind);

impl ToSql for Stored<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match (self.0, self.1) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Integer(number), _) if *ty == Type::INT4 => i32::try_from(*number)?.to_sql(ty, out),
            (Value::Integer(number), _) => number.to_sql(ty, out),
            (Value::Flag(flag), _) => flag.to_sql(ty, out),
            (Value::Id(id), _) => id.to_sql(ty, out),
            (Value::Text(text), Kind::Text | Kind::Thread) => Text(text).to_sql(ty, out),
            (Value::Text(text), _) => text.to_sql(ty, out),
            (Value::Bytes(floats), Kind::Vector) => vector(floats, out),
            (Value::Bytes(bytes), _) => bytes.to_sql(ty, out),
            (Value::Labels(labels), _) => labels.iter().map(|label| Text(label)).collect::<Vec<_>>().to_sql(ty, out),
        }
    }

    /// What does not fit its column is found when it is written.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A vector as the extension takes it: how many floats there are, nothing, and the floats, the other way round.
fn vector(floats: &[u8], out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
    out.put_u16(u16::try_from(floats.len() / 4)?);
    out.put_u16(0);
    floats.as_chunks().0.iter().for_each(|float| out.put_u32(u32::from_le_bytes(*float)));
    Ok(IsNull::No)
}

/// What is read for a column.
pub(super) fn expression((name, kind): &Column) -> String {
    match kind {
        Kind::Vector => format!("{name}::real[]"),
        _ => format!("\"{name}\""),
    }
}

/// What a row of a table holds.
pub(super) fn values(table: &Table, row: &PostgresRow) -> Done<Row> {
    let owner = sealing::owner(table);
    table.columns.iter().chain(&owner).enumerate().map(|(place, (_, kind))| value(row, place, *kind)).collect()
}

fn value(row: &PostgresRow, place: usize, kind: Kind) -> Done<Value> {
    let is_short = *row.columns()[place].type_() == Type::INT4;
    let value = match kind {
        Kind::Integer if is_short => get::<Option<i32>>(row, place)?.map(|number| Value::Integer(number.into())),
        Kind::Integer => get::<Option<i64>>(row, place)?.map(Value::Integer),
        Kind::Flag => get::<Option<bool>>(row, place)?.map(Value::Flag),
        Kind::Id => get::<Option<Uuid>>(row, place)?.map(Value::Id),
        Kind::Text | Kind::Thread => get::<Option<&str>>(row, place)?.map(|text| Value::Text(unescaped(text))),
        Kind::Json => get::<Option<String>>(row, place)?.map(Value::Text),
        Kind::Bytes => get::<Option<Vec<u8>>>(row, place)?.map(Value::Bytes),
        Kind::Labels => get::<Option<Vec<&str>>>(row, place)?
            .map(|labels| Value::Labels(labels.into_iter().map(unescaped).collect())),
        Kind::Vector => get::<Option<Vec<f32>>>(row, place)?
            .map(|floats| Value::Bytes(floats.into_iter().flat_map(f32::to_le_bytes).collect())),
    };
    Ok(value.unwrap_or(Value::Null))
}

/// What follows from other columns of a row.
#[derive(Debug)]
pub(super) enum Derived {
    Flag(bool),
    Tags(Vec<i64>),
}

impl ToSql for Derived {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Flag(flag) => flag.to_sql(ty, out),
            Self::Tags(tags) => tags.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The columns that follow from others, which not every database has.
pub(super) fn derived_columns(table: &Table) -> &'static [&'static str] {
    match table.name {
        "thread" => &["tags"],
        "run" => &["plain"],
        "checkpoint" => &["needs_parent"],
        _ => &[],
    }
}

/// What these columns hold in a row.
pub(super) fn derived(table: &Table, row: &Row) -> Done<Vec<Derived>> {
    let column = |name: &str| table.columns.iter().position(|(column, _)| *column == name).map(|place| &row[place]);
    let unreadable = |why: String| StorageError::Corrupt { table: table.name, row: format!("{:?}", row[0]), why };
    Ok(match (table.name, column("metadata"), column("kwargs")) {
        ("thread", Some(Value::Text(metadata)), _) => {
            let metadata: Object = serde_json::from_str(metadata).map_err(|error| unreadable(error.to_string()))?;
            vec![Derived::Tags(tags(&metadata))]
        }
        ("run", Some(Value::Text(metadata)), Some(Value::Text(kwargs))) => {
            let kwargs = serde_json::from_str(kwargs).map_err(|error| unreadable(error.to_string()))?;
            let metadata = serde_json::from_str(metadata).map_err(|error| unreadable(error.to_string()))?;
            vec![Derived::Flag(is_plain(&kwargs, &metadata))]
        }
        ("checkpoint", Some(Value::Bytes(metadata)), _) => vec![Derived::Flag(needs_parent(metadata))],
        _ => Vec::new(),
    })
}
