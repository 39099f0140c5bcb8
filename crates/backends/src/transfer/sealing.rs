//! What is sealed in the rows of a table. It is opened when it leaves one database and sealed anew for the other, so that
//! an import encrypts what was not encrypted, and leaves older keys behind.

use threadyard_core::storage::{Result, StorageError};
use uuid::Uuid;

use super::{
    tables::{Kind, Table},
    values::{Row, Value},
};
use crate::cipher::{Cipher, Growth, Place};

/// The sealed columns of a table.
fn sealed(table: &Table) -> &'static [&'static str] {
    match table.name {
        "thread" => &["config", "state_values", "interrupts", "error", "state"],
        "run" => &["kwargs", "error"],
        "event" | "blob" | "pending_write" => &["data"],
        "checkpoint" => &["checkpoint", "metadata"],
        "item" => &["value"],
        "cron" => &["payload", "auth_user"],
        "delivery" => &["url", "headers", "maker"],
        "push_config" => &["url", "headers"],
        "delivery_body" => &["body"],
        _ => &[],
    }
}

/// What a row belongs to, where its own columns do not say that: read behind them, and never written.
pub(crate) fn owner(table: &Table) -> Option<(&'static str, Kind)> {
    match table.name {
        "event" => Some(("(SELECT id FROM run WHERE run.k = event.run)", Kind::Id)),
        "delivery_body" => Some(("(SELECT id FROM delivery WHERE delivery.k = delivery_body.delivery)", Kind::Text)),
        _ => None,
    }
}

/// Opens what is sealed in a row.
pub(crate) fn open(cipher: &Cipher, table: &Table, row: &mut Row) -> Result<()> {
    change(table, row, |place, value| {
        Ok(match value {
            Value::Text(text) => Value::Text(cipher.open_text(place, text)?),
            Value::Bytes(bytes) => Value::Bytes(cipher.open(place, bytes)?),
            other => other,
        })
    })
}

/// Seals what is to be sealed in a row.
pub(crate) fn seal(cipher: &Cipher, table: &Table, row: &mut Row) -> Result<()> {
    change(table, row, |place, value| {
        Ok(match value {
            Value::Text(text) => Value::Text(cipher.seal_text(place, text)?.into_owned()),
            Value::Bytes(bytes) => Value::Bytes(cipher.seal(place, bytes)?.into_owned()),
            other => other,
        })
    })
}

fn change(table: &Table, row: &mut Row, change: impl Fn(Place<'_>, Value) -> Result<Value>) -> Result<()> {
    for &column in sealed(table) {
        let Some(at) = table.columns.iter().position(|(name, _)| *name == column) else { continue };
        let value = std::mem::replace(&mut row[at], Value::Null);
        row[at] = match place(table, column, row) {
            // What belongs to nothing any more is read by nobody.
            None if owner(table).is_some() => value,
            None => return Err(StorageError::Bug(format!("a row of table `{}` has no place", table.name))),
            Some(place) => change(place, value)?,
        };
    }
    Ok(())
}

/// Where a value of a row is, as far as its columns tell.
fn place<'a>(table: &Table, column: &'static str, row: &'a Row) -> Option<Place<'a>> {
    let columns = Columns { table, row };
    Some(match table.name {
        "thread" => Place::Thread(column, columns.id("id")?),
        "run" => Place::Run(column, columns.id("id")?),
        "cron" => Place::Cron(column, columns.id("id")?),
        "event" => Place::Event { run: columns.owner().and_then(id)?, name: columns.text("name")? },
        "checkpoint" => Place::Checkpoint { column, ns: columns.text("ns")?, id: columns.text("id")? },
        "blob" => {
            let (ns, channel, version) = (columns.text("ns")?, columns.text("channel")?, columns.text("version")?);
            let shared = [columns.integer("base_from")?, columns.integer("head")?, columns.integer("copied")?];
            let packed = columns.value("packed") == Some(&Value::Flag(true));
            let growth = Growth { kind: columns.text("kind")?, base: columns.text("base"), shared, packed };
            Place::Blob { ns, channel, version, growth }
        }
        "pending_write" => Place::Write {
            ns: columns.text("ns")?,
            checkpoint: columns.text("checkpoint")?,
            task: columns.text("task")?,
            idx: columns.integer("idx")?,
            channel: columns.text("channel")?,
            kind: columns.text("kind")?,
        },
        "item" => match columns.value("namespace")? {
            Value::Labels(namespace) => Place::Item { namespace, key: columns.text("key")? },
            _ => return None,
        },
        "delivery" => Place::Delivery(column, columns.text("id")?),
        "push_config" => Place::PushConfig(column, columns.id("run_id")?, columns.text("id")?),
        "delivery_body" => Place::Body(columns.owner().and_then(text)?),
        _ => return None,
    })
}

/// The columns of a row by their names.
struct Columns<'a, 't> {
    table: &'t Table,
    row: &'a Row,
}

impl<'a> Columns<'a, '_> {
    fn value(&self, name: &str) -> Option<&'a Value> {
        let at = self.table.columns.iter().position(|(column, _)| *column == name)?;
        self.row.get(at)
    }

    fn owner(&self) -> Option<&'a Value> {
        self.row.get(self.table.columns.len())
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.value(name).and_then(text)
    }

    fn id(&self, name: &str) -> Option<Uuid> {
        self.value(name).and_then(id)
    }

    fn integer(&self, name: &str) -> Option<i64> {
        match self.value(name)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }
}

fn text(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn id(value: &Value) -> Option<Uuid> {
    if let Value::Id(id) = value { Some(*id) } else { None }
}
