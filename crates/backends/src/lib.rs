//! Where facts and live events are kept: the only crate that opens a database.
//!
//! [`SqliteStorage`] implements `threadyard_core::storage::Storage`; [`LocalBus`] implements
//! `threadyard_core::bus::EventBus` within one process, [`SharedBus`] between the replicas of a server. The contract suite
//! in `tests/contract` runs on every backend.

mod bus;
mod cipher;
mod documents;
mod expiry;
mod growth;
mod headers;
mod item_search;
mod postgres;
mod rooms;
mod saved_state;
mod sealed;
mod sqlite;
mod transfer;

#[cfg(feature = "testkit")]
pub use bus::memory::MemoryNet;
pub use bus::{
    local::{LocalBus, LocalBusConfig},
    redis_uri::{RedisConfig, RedisUriError},
    shared::{SharedBus, SharedBusConfig},
};
pub use cipher::{AesKey, AesKeyError, Cipher, KeyMismatch};
pub use postgres::{Dedicated, PostgresConfig, PostgresOpenError, PostgresStorage, RootsError, UriError};
pub use sealed::SealedStorage;
pub use sqlite::{KeyFolder, OpenError, SqliteStorage};
pub use transfer::{Comparison, Listener, Place, Progress, Step, Sum, Transfer, TransferError, compare, import};
