//! SQLite: one writer thread with group commit, a few readers, integer keys inside and UUIDs outside.

mod agent_tasks;
mod api_keys;
mod assistants;
mod blobs;
mod checkpoints;
mod connection;
mod crons;
mod deliveries;
mod ending;
mod events;
mod items;
mod known_keys;
mod limits;
mod lineages;
#[cfg(test)]
mod plans;
mod push_configs;
mod queue;
mod readers;
mod recoveries;
mod retention;
mod rows;
mod runs;
mod sql;
mod thread_search;
mod threads;
mod transfer;
#[cfg(test)]
mod upgrades;
mod vectors;
mod wal;
mod webhook_keys;
mod webhooks;
mod writer;

use std::{
    fs::{File, Permissions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::OpenFlags;
use threadyard_core::{
    connections::{ConnectionState, Connections},
    storage::StorageError,
};

pub use self::api_keys::KeyFolder;
pub(crate) use self::transfer::RestingSqlite;
use self::{
    connection::{Connection, connect},
    readers::Readers,
    writer::Writer,
};
use crate::{
    cipher::{Cipher, KeyMismatch},
    growth::Heads,
};

mod embedded {
    refinery::embed_migrations!("src/sqlite/migrations");
}

const READERS: usize = 4;
/// The database in its folder.
const FILE: &str = "threadyard.db";

/// Facts in one SQLite file, which one process at a time may open.
pub struct SqliteStorage {
    writer: Writer,
    readers: Readers,
    heads: Arc<Heads>,
    /// Holds the exclusive lock on the data folder as long as the storage lives.
    _lock: File,
}

/// Why a data folder could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server has it.
    #[error("the data folder `{0}` is in use by another server; stop that server or choose another folder")]
    InUse(PathBuf),
    /// It can't be made or written.
    #[error("the data folder `{folder}` can't be used: {source}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file is not a database of ours.
    #[error("the database `{file}` can't be opened: {why}")]
    Database {
        /// The file.
        file: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// What is in it was encrypted with keys that are not here.
    #[error("the data folder `{folder}` can't be used: {source}")]
    Keys {
        /// The folder.
        folder: PathBuf,
        /// Which key is missing.
        source: KeyMismatch,
    },
    /// Not everything of another database has come yet.
    #[error(
        "the data folder `{folder}` holds an unfinished import of `{origin}`; finish it with the same `threadyard import`, \
         or delete the folder and start over"
    )]
    Unfinished {
        /// The folder.
        folder: PathBuf,
        /// Where what it holds comes from.
        origin: String,
    },
}

impl Connections for SqliteStorage {
    fn connections(&self) -> Vec<ConnectionState> {
        vec![self.readers.state()]
    }
}

impl SqliteStorage {
    /// Opens or makes the database in `folder`, which stays as it is written. Runs that a dead process left running may be
    /// claimed at once.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        Self::open_with(folder, &Cipher::none())
    }

    /// As `open`, and encrypts what is written from now on.
    pub fn open_with(folder: &Path, cipher: &Cipher) -> Result<Self, OpenError> {
        let file = folder.join(FILE);
        let (lock, mut connection) = open(&file, cipher)?;
        let database = |why: String| OpenError::Database { file: file.clone(), why };
        if let Some(origin) = transfer::unfinished(&connection).map_err(|error| database(error.to_string()))? {
            return Err(OpenError::Unfinished { folder: folder.into(), origin });
        }
        known_keys::admit(&connection, folder)?;
        // The lock on the folder proves that nobody holds a lease any more.
        connection
            .execute_batch(
                "UPDATE run SET lease_until = 0 WHERE status = 'running';
                 UPDATE delivery INDEXED BY delivery_leased SET next_attempt_at = 0, lease_id = NULL
                 WHERE lease_id IS NOT NULL;",
            )
            .map_err(|error| database(error.to_string()))?;
        let readers = Readers::open(READERS, || {
            connect(&file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX, cipher)
        })
        .map_err(|error| database(error.to_string()))?;
        let thread = |source| OpenError::Folder { folder: folder.into(), source };
        let mover = connect(&file, OpenFlags::default(), cipher).map_err(|error| database(error.to_string()))?;
        wal::move_aside(&mut connection, mover.into_database()).map_err(thread)?;
        let writer = Writer::start(connection).map_err(thread)?;
        Ok(Self { writer, readers, heads: Arc::new(Heads::new()), _lock: lock })
    }
}

/// Opens or makes a database and brings its tables up to date, for as long as the lock on its folder is held.
fn open(file: &Path, cipher: &Cipher) -> Result<(File, Connection), OpenError> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let lock = lock(folder)?;
    let database = |why: String| OpenError::Database { file: file.into(), why };
    private(file).map_err(|source| OpenError::Folder { folder: folder.into(), source })?;
    let mut connection = connect(file, OpenFlags::default(), cipher).map_err(|error| database(error.to_string()))?;
    prepare(&connection).map_err(|error| database(error.to_string()))?;
    embedded::migrations::runner().run(&mut *connection).map_err(|error| database(error.to_string()))?;
    Ok((lock, connection))
}

fn lock(folder: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Folder { folder: folder.into(), source };
    // What users and receivers entrust to the server is for nobody else on the machine.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let file = File::options().create(true).append(true).mode(0o600).open(folder.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(folder.into())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Makes the file if need be; SQLite gives those beside it the same rights.
fn private(file: &Path) -> std::io::Result<()> {
    let file = File::options().create(true).append(true).mode(0o600).open(file)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "temp_store", "memory")
}

/// What SQLite's failures mean to the engine.
fn failure(error: &rusqlite::Error) -> StorageError {
    use rusqlite::ErrorCode::{CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, ReadOnly, SystemIoFailure};
    match error.sqlite_error_code() {
        Some(DatabaseBusy | DatabaseLocked | DiskFull | ReadOnly | SystemIoFailure | CannotOpen) => {
            StorageError::Unavailable(error.to_string())
        }
        _ => StorageError::Bug(error.to_string()),
    }
}

/// A failure inside an operation: SQLite's, or one that the operation itself found.
#[derive(Debug)]
enum Failure {
    Sqlite(rusqlite::Error),
    Found(StorageError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Found(error)
    }
}

impl From<Failure> for StorageError {
    fn from(failed: Failure) -> Self {
        match failed {
            Failure::Sqlite(error) => failure(&error),
            Failure::Found(error) => error,
        }
    }
}

/// The outcome of an operation on a connection.
type Done<T> = Result<T, Failure>;
