//! A connection to the database: with the functions that statements need, and what seals and opens what is stored.

use std::{
    ops::{Deref, DerefMut},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rusqlite::{
    OpenFlags,
    config::DbConfig,
    functions::{Context, FunctionFlags},
};
use threadyard_core::{
    filter,
    json::{Object, Value},
    metadata_filter::MetadataFilter,
};
use uuid::Uuid;

use super::{thread_search, vectors};
use crate::cipher::{Cipher, Place};

/// A connection, and what is sealed and opened with.
pub(super) struct Connection {
    database: rusqlite::Connection,
    cipher: Cipher,
}

impl Connection {
    pub(super) fn new(database: rusqlite::Connection, cipher: Cipher) -> Self {
        Self { database, cipher }
    }

    pub(super) fn cipher(&self) -> &Cipher {
        &self.cipher
    }

    /// The connection alone, for what neither seals nor opens.
    pub(super) fn into_database(self) -> rusqlite::Connection {
        self.database
    }
}

impl Deref for Connection {
    type Target = rusqlite::Connection;

    fn deref(&self) -> &rusqlite::Connection {
        &self.database
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut rusqlite::Connection {
        &mut self.database
    }
}

pub(super) fn connect(file: &Path, flags: OpenFlags, cipher: &Cipher) -> rusqlite::Result<Connection> {
    vectors::install()?;
    let connection = rusqlite::Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(128);
    // Without it a statement may be prepared anew for each value that is bound to it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    add_functions(&connection, cipher)?;
    Ok(Connection::new(connection, cipher.clone()))
}

fn add_functions(connection: &rusqlite::Connection, cipher: &Cipher) -> rusqlite::Result<()> {
    let pure = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("json_has", 2, pure, |call| {
        let document = call.get_raw(0).as_str_or_null()?;
        let pattern: Arc<Value> = call.get_or_create_aux(1, |pattern| parse(pattern.as_str()?))?;
        Ok(match document {
            None => false,
            // JSON that is too deep or too odd to be understood matches nothing.
            Some(document) => parse(document).is_ok_and(|document| filter::contains(&document, &pattern)),
        })
    })?;
    connection.create_scalar_function("json_admits", 2, pure, |call| {
        let document = call.get_raw(0).as_str_or_null()?;
        let filter: Arc<MetadataFilter> = call.get_or_create_aux(1, |filter| admission(filter.as_str()?))?;
        let metadata = document.and_then(|document| serde_json::from_str::<Object>(document).ok());
        Ok(metadata.is_some_and(|metadata| filter.admits(&metadata)))
    })?;
    connection
        .create_scalar_function("json_tag", 2, pure, |call| Ok(thread_search::tag(call.get_raw(0), call.get_raw(1))))?;
    // What statements look into, and can't see while it is sealed: the values of a thread, by its id, and the metadata of
    // a checkpoint, by its namespace and id.
    let of_values = cipher.clone();
    connection.create_scalar_function("opened_values", 2, pure, move |call| values(&of_values, call))?;
    let of_metadata = cipher.clone();
    connection.create_scalar_function("opened_metadata", 3, pure, move |call| metadata(&of_metadata, call))
}

fn values(cipher: &Cipher, call: &Context<'_>) -> rusqlite::Result<Option<String>> {
    let Some(stored) = call.get::<Option<String>>(1)? else { return Ok(None) };
    let id = Uuid::from_bytes(call.get(0)?);
    cipher.open_text(Place::Thread("state_values", id), stored).map(Some).map_err(wrong)
}

fn metadata(cipher: &Cipher, call: &Context<'_>) -> rusqlite::Result<String> {
    let (ns, id): (String, String) = (call.get(0)?, call.get(1)?);
    let place = Place::Checkpoint { column: "metadata", ns: &ns, id: &id };
    let opened = cipher.open(place, call.get(2)?).map_err(wrong)?;
    Ok(String::from_utf8_lossy(&opened).into_owned())
}

fn parse(text: &str) -> rusqlite::Result<Value> {
    serde_json::from_str(text).map_err(wrong)
}

fn admission(text: &str) -> rusqlite::Result<MetadataFilter> {
    let written: Object = serde_json::from_str(text).map_err(wrong)?;
    MetadataFilter::read(&written).map_err(wrong)
}

fn wrong(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::UserFunctionError(error.into())
}
