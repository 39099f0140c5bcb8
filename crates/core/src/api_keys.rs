//! API keys: texts that stand for a user, of which only a digest is kept.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{storage::Result, time::Timestamp};

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// What the key begins with, which may be shown.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The user that it stands for.
    pub identity: String,
    /// What its holder may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it is of use no more, if ever.
    pub expires_at: Option<Timestamp>,
    /// When somebody took it back.
    pub revoked_at: Option<Timestamp>,
    /// When somebody last came with it, to the hour or so.
    #[serde(default)]
    pub last_used_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether it opens anything at this moment.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// What is kept of the key itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest(pub [u8; 32]);

impl fmt::Debug for KeyDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyDigest(…)")
    }
}

/// Stored keys.
#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// Adds a key, unless another one has its name and is valid at the moment when this one is made. Says whether it did.
    async fn create_api_key(&self, key: ApiKey, digest: KeyDigest) -> Result<bool>;
    /// All keys, the newest first.
    async fn api_keys(&self) -> Result<Vec<ApiKey>>;
    /// The key with this id.
    async fn api_key(&self, id: &str) -> Result<Option<(ApiKey, KeyDigest)>>;
    /// Takes a key back, which stays known. Says whether there is one with this id.
    async fn revoke_api_key(&self, id: &str, now: Timestamp) -> Result<bool>;
    /// Notes that somebody came with a key, unless that was noted after a moment.
    async fn note_use_of_api_key(&self, id: &str, now: Timestamp, noted_after: Timestamp) -> Result<()>;
}
