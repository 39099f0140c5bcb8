//! The keys that webhooks are signed with. Every receiver's own key is derived from a master key.

use std::fmt;

use async_trait::async_trait;

use crate::{storage::Result, time::Timestamp};

/// Thirty-two bytes that nobody outside may know.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey(pub [u8; 32]);

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MasterKey(…)")
    }
}

/// A master key with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookKey {
    /// Counts the keys, from 1.
    pub version: u32,
    /// The key.
    pub master: MasterKey,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it signs no more; never, while it is the newest.
    pub expires_at: Option<Timestamp>,
}

/// Stored keys.
#[async_trait]
pub trait WebhookKeys: Send + Sync {
    /// The keys that sign at this moment, the newest first. Makes the first one of `first` when there is none.
    async fn webhook_keys(&self, first: MasterKey, now: Timestamp) -> Result<Vec<WebhookKey>>;
    /// Adds a key. The others sign until `until`, or until they would have expired anyway.
    async fn rotate_webhook_key(&self, master: MasterKey, now: Timestamp, until: Timestamp) -> Result<WebhookKey>;
}
