//! A few read-only connections. Writes are answered after their commit, so a reader sees what its caller wrote.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use threadyard_core::{connections::ConnectionState, storage::StorageError};
use tokio::sync::Semaphore;

use super::{Connection, Done};

pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    /// One permit for each idle connection.
    permits: Arc<Semaphore>,
    count: usize,
    waiting: AtomicU64,
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
        Ok(Self {
            idle: Arc::new(Mutex::new(idle)),
            permits: Arc::new(Semaphore::new(count)),
            count,
            waiting: AtomicU64::new(0),
            prompt,
        })
    }

    /// How many are in use and waited for.
    pub(super) fn state(&self) -> ConnectionState {
        ConnectionState {
            purpose: "read",
            limit: self.count as u64,
            busy: self.count.saturating_sub(self.permits.available_permits()) as u64,
            waiting: self.waiting.load(Ordering::Relaxed),
        }
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
        let waits = Waits::begin(&self.waiting);
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| closed())?;
        drop(waits);
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

/// Counts a caller as waiting, until this is dropped.
struct Waits<'a>(&'a AtomicU64);

impl<'a> Waits<'a> {
    fn begin(waiting: &'a AtomicU64) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
