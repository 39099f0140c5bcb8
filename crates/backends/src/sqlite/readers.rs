//! A few read-only connections. Writes are answered after their commit, so a reader sees what its caller wrote.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use threadyard_core::storage::StorageError;
use tokio::sync::Semaphore;

use super::Done;

pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    /// One permit for each idle connection.
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn open(count: usize, connect: impl Fn() -> rusqlite::Result<Connection>) -> rusqlite::Result<Self> {
        let idle = (0..count).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { idle: Arc::new(Mutex::new(idle)), permits: Arc::new(Semaphore::new(count)) })
    }

    /// Reads on a thread where blocking is allowed.
    pub(super) async fn read<T, F>(&self, query: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Done<T> + Send + 'static,
    {
        let closed = || StorageError::Unavailable("the database is closed".into());
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| closed())?;
        let idle = self.idle.clone();
        let read = move || {
            let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = connection.ok_or_else(closed)?;
            let outcome = query(&connection).map_err(StorageError::from);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(permit);
            outcome
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(StorageError::Bug(error.to_string())))
    }
}
