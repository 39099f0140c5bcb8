//! A few read-only connections. Writes are answered after their commit, so a reader sees what its caller wrote.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::Connection;
use threadyard_core::storage::StorageError;
use tokio::sync::Semaphore;

use super::Done;

pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    /// One permit for each idle connection.
    permits: Arc<Semaphore>,
    /// Connections that wait for nobody.
    prompt: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn open(count: usize, connect: impl Fn() -> rusqlite::Result<Connection>) -> rusqlite::Result<Self> {
        let idle = (0..count).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
        let prompt = (0..count).map(|_| {
            let connection = connect()?;
            connection.busy_timeout(Duration::ZERO)?;
            Ok(connection)
        });
        let prompt = Mutex::new(prompt.collect::<rusqlite::Result<_>>()?);
        Ok(Self { idle: Arc::new(Mutex::new(idle)), permits: Arc::new(Semaphore::new(count)), prompt })
    }

    /// Reads what is found by its key, right here: handing it to another thread would take longer than reading it.
    pub(super) async fn look_up<T, F>(&self, query: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Done<T> + Send + 'static,
    {
        let connection = self.prompt.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(connection) = connection {
            let outcome = query(&connection).map_err(StorageError::from);
            self.prompt.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            // Somebody may have locked the database for a while, which the others wait for.
            if !matches!(outcome, Err(StorageError::Unavailable(_))) {
                return outcome;
            }
        }
        self.read(query).await
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
