//! Retention: how long threads and items are kept after they last changed.

use std::time::Duration;

use async_trait::async_trait;

use crate::{checkpoints::PruneStrategy, ids::ThreadId, storage::Result, time::Timestamp};

/// How long a thread is kept after it last changed, and what then happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadTtl {
    /// What happens.
    pub strategy: PruneStrategy,
    /// After how long.
    pub ttl: Duration,
}

/// What is said of the two ends of a settled delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryTimes<T> {
    /// Of its body, and of what is secret about its URL.
    pub body: T,
    /// Of the rest.
    pub row: T,
}

/// What a sweep of threads did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweptThreads {
    /// Gone.
    pub deleted: Vec<ThreadId>,
    /// Reduced to their newest checkpoint.
    pub pruned: Vec<ThreadId>,
}

/// Removal of what is kept no longer.
#[async_trait]
pub trait Retention: Send + Sync {
    /// Treats at most `limit` threads whose time is over; a busy one waits until it is at rest.
    async fn sweep_threads(&self, now: Timestamp, limit: u32) -> Result<SweptThreads>;
    /// Erases the bodies of at most `limit` deliveries that were settled before the first moment, or else deletes at most
    /// so many that were settled before the second. Says how many.
    async fn sweep_deliveries(&self, before: DeliveryTimes<Timestamp>, limit: u32) -> Result<u64>;
    /// Forgets what at most `limit` resumable runs said that ended before this moment, and says of how many.
    async fn sweep_events(&self, ended_before: Timestamp, limit: u32) -> Result<u64>;
    /// Deletes at most `limit` items whose time is over, and says how many.
    async fn sweep_items(&self, now: Timestamp, limit: u32) -> Result<u64>;
}
