//! Connections to the database, and the pool that they come from: with what seals and opens what is stored.

use std::ops::{Deref, DerefMut};

use deadpool_postgres::{ClientWrapper, Manager, ManagerConfig, Object, RecyclingMethod, Runtime, Status};
use threadyard_core::storage::{Result, StorageError};

use super::{
    config::{PATIENCE, PostgresConfig},
    schema::PostgresOpenError,
};
use crate::cipher::Cipher;

/// Connections that are used again.
#[derive(Clone)]
pub(super) struct Pool {
    connections: deadpool_postgres::Pool,
    cipher: Cipher,
}

impl Pool {
    pub(super) fn new(
        config: &PostgresConfig,
        size: usize,
        cipher: &Cipher,
    ) -> std::result::Result<Self, PostgresOpenError> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config.driver().clone(), config.tls(), recycling);
        let connections = deadpool_postgres::Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .recycle_timeout(Some(PATIENCE))
            .build()
            .map_err(|error| PostgresOpenError::Unreachable(error.to_string()))?;
        Ok(Self { connections, cipher: cipher.clone() })
    }

    /// A connection, or the news after a bounded time that there is none.
    pub(super) async fn get(&self) -> Result<Client> {
        let connection = self.connections.get().await.map_err(|error| StorageError::Unavailable(error.to_string()))?;
        Ok(Client { connection, cipher: self.cipher.clone() })
    }

    pub(super) fn status(&self) -> Status {
        self.connections.status()
    }
}

/// A connection of the pool, which goes back there.
pub(super) struct Client {
    connection: Object,
    cipher: Cipher,
}

impl Client {
    pub(super) fn cipher(&self) -> &Cipher {
        &self.cipher
    }

    /// Ends the connection: it does not go back to the pool.
    pub(super) fn end(self) {
        drop(Object::take(self.connection));
    }
}

impl Deref for Client {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.connection
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut ClientWrapper {
        &mut self.connection
    }
}
