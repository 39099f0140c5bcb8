//! Everything that one database holds, brought into another: `threadyard import`.

mod comparing;
mod copying;
pub(crate) mod sealing;
pub(crate) mod tables;
pub(crate) mod values;

use std::path::PathBuf;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use threadyard_core::storage::StorageError;

pub use self::{
    comparing::{Comparison, compare},
    copying::import,
    values::Sum,
};
use self::{
    tables::{EMBEDDINGS, TABLES, Table},
    values::{Batch, Key, Row},
};
use crate::{
    cipher::{Cipher, KeyMismatch},
    postgres::{PostgresConfig, PostgresOpenError, RestingPostgres},
    sqlite::{OpenError, RestingSqlite},
};

/// Where a database is.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a data folder; or the file in it.
    Folder(PathBuf),
    /// On a PostgreSQL server.
    Postgres(Box<PostgresConfig>),
}

/// Between which databases, and what.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Where everything is.
    pub from: Place,
    /// Where it is to be.
    pub to: Place,
    /// Whether what the texts of items mean goes along.
    pub embeddings: bool,
    /// What is encrypted in either, and is to be in the target, is opened and sealed with this.
    pub cipher: Cipher,
}

/// How far a table is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What is done with it.
    pub step: Step,
    /// What is in the table.
    pub noun: &'static str,
    /// So many rows are done.
    pub rows: u64,
    /// Of so many.
    pub of: u64,
    /// What was done since the last time, in bytes.
    pub bytes: u64,
}

/// What is done with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes over.
    Copying,
    /// Both sides are read and compared.
    Comparing,
}

/// Hears of progress, each time after it was made.
pub type Listener<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// Why nothing, or not everything, went over.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// There is no database.
    #[error("there is no database of a server in `{0}`")]
    Missing(String),
    /// A folder or its database can't be used.
    #[error(transparent)]
    Sqlite(#[from] OpenError),
    /// A PostgreSQL database can't be used.
    #[error(transparent)]
    Postgres(#[from] PostgresOpenError),
    /// What is in it was encrypted with keys that are not here.
    #[error("`{name}` can't be used: {source}")]
    Keys {
        /// The database.
        name: String,
        /// Which key is missing.
        source: KeyMismatch,
    },
    /// Somebody may change it at any moment.
    #[error("`{name}` is in use: {by}; stop the servers first, and wait for the leases of any that were killed")]
    InUse {
        /// The database.
        name: String,
        /// Who uses it, and how.
        by: String,
    },
    /// It belongs to somebody already.
    #[error("`{name}` is not empty: it has {nouns}; an import goes into an empty database")]
    Occupied {
        /// The database.
        name: String,
        /// What is in it.
        nouns: String,
    },
    /// Another import has begun there.
    #[error(
        "`{name}` holds an unfinished import of `{found}`, which is another database or has changed since; finish that one, \
         or empty the target and start over"
    )]
    OtherSource {
        /// The target.
        name: String,
        /// Where what it holds comes from.
        found: String,
    },
    /// Somebody else is at it.
    #[error("another import into `{0}` is on its way")]
    Overtaken(String),
    /// The target can't hold vectors.
    #[error("{count} embeddings of items can't come along: {why}; --without-embeddings leaves them behind")]
    Embeddings {
        /// How many there are.
        count: u64,
        /// What is missing.
        why: String,
    },
    /// A row can't be understood.
    #[error("a row of table `{table}` can't be taken over: {why}")]
    Row {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

type Result<T, E = TransferError> = std::result::Result<T, E>;

/// What a database is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// What is there is read.
    Read,
    /// It is filled, and made if need be.
    Fill,
}

/// An import that has begun: where from, and how far each table is.
pub(crate) struct Begun {
    pub(crate) origin: Origin,
    pub(crate) marks: Vec<Mark>,
}

/// Which database an import is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// How people call it.
    pub(crate) name: String,
    /// What it held, in short.
    pub(crate) fingerprint: String,
}

/// How far a table is: so many rows have come, up to a key.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) table: String,
    pub(crate) rows: u64,
    pub(crate) last: Option<Key>,
}

impl Mark {
    /// The key as a column holds it.
    pub(crate) fn stored(&self) -> Result<Option<String>, serde_json::Error> {
        self.last.as_ref().map(serde_json::to_string).transpose()
    }

    /// Reads what `stored` made.
    pub(crate) fn read(table: String, rows: i64, last: Option<&str>) -> Result<Self, serde_json::Error> {
        Ok(Self { table, rows: rows.unsigned_abs(), last: last.map(serde_json::from_str).transpose()? })
    }
}

/// How many rows a table has, and its last.
pub(crate) struct Extent {
    pub(crate) rows: u64,
    pub(crate) last: Option<Row>,
}

/// A database that nobody else uses for as long as this lives.
#[async_trait]
pub(crate) trait Resting: Send + Sync {
    /// What people call it, without any secret.
    fn name(&self) -> String;

    /// How many rows a table has.
    async fn extent(&self, table: &'static Table) -> Result<Extent>;

    /// The rows of a table in the order of their keys, from behind one on. Nothing else is asked meanwhile.
    async fn rows(&self, table: &'static Table, after: Option<Key>) -> Result<BoxStream<'static, Result<Batch>>>;

    /// Whether a server has left more than what it makes by itself: what there is of it.
    async fn occupied(&self) -> Result<Vec<&'static str>>;

    /// The import that has begun and not finished.
    async fn begun(&self) -> Result<Option<Begun>>;

    /// Begins an import, in place of what a server makes by itself. From here on nobody serves this database.
    async fn begin(&self, origin: &Origin) -> Result<()>;

    /// Notes which key is in force, before anything is written that is sealed with it.
    async fn note_key(&self) -> Result<()>;

    /// Sees to it that embeddings can be held, or says why not.
    async fn admit_embeddings(&self) -> Result<Result<(), String>>;

    /// Adds rows to a table, and moves its mark in the same transaction.
    async fn write(&self, table: &'static Table, batch: Batch, marks: (Mark, Mark)) -> Result<()>;

    /// Ends the import: from here on the database may be served.
    async fn finish(&self) -> Result<()>;
}

/// Opens both, as what they are.
async fn open(transfer: &Transfer, target: Use) -> Result<(Box<dyn Resting>, Box<dyn Resting>)> {
    let cipher = &transfer.cipher;
    Ok((open_one(&transfer.from, Use::Read, cipher).await?, open_one(&transfer.to, target, cipher).await?))
}

async fn open_one(place: &Place, wanted: Use, cipher: &Cipher) -> Result<Box<dyn Resting>> {
    Ok(match place {
        Place::Folder(path) => Box::new(RestingSqlite::open(path, wanted, cipher)?),
        Place::Postgres(config) => Box::new(RestingPostgres::open(config, wanted, cipher).await?),
    })
}

/// The tables that are looked at.
fn tables(embeddings: bool) -> impl Iterator<Item = &'static Table> {
    TABLES.iter().filter(move |table| embeddings || table.name != EMBEDDINGS)
}
