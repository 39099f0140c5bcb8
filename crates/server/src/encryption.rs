//! Encryption at rest: the operator's keys, as settings.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use clap::Args;
use threadyard_backends::{AesKey, AesKeyError, Cipher};
use threadyard_core::{
    access::User,
    json::Object,
    sealing::{Data, Piece, SealingHandlers},
    storage::{Result as Stored, StorageError},
};

/// The keys that what is stored is encrypted with.
#[derive(Args, Clone, Default)]
pub struct EncryptionArgs {
    /// What is stored is encrypted with this, a text of 16, 24 or 32 bytes.
    #[arg(long, env = "LANGGRAPH_AES_KEY", hide_env_values = true)]
    pub aes_key: Option<String>,
    /// Earlier keys, with commas between: what was encrypted with them can still be read.
    #[arg(long, env = "LANGGRAPH_AES_FALLBACK_KEYS", hide_env_values = true)]
    pub aes_fallback_keys: Option<String>,
}

/// Why the keys can't be used. None of them is repeated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncryptionError {
    /// One of them is none.
    #[error(transparent)]
    Key(#[from] AesKeyError),
    /// Nothing would be encrypted.
    #[error(
        "LANGGRAPH_AES_FALLBACK_KEYS is of no use without LANGGRAPH_AES_KEY, which is what new values are encrypted with"
    )]
    NoCurrentKey,
}

impl EncryptionArgs {
    /// Warns where a key is named and set to nothing, as it is when a secret is missing.
    pub(crate) fn warn_of_nothing(&self) {
        if self.aes_key.as_deref() == Some("") {
            tracing::warn!("LANGGRAPH_AES_KEY is set to nothing: what is stored from now on is not encrypted");
        }
    }

    /// What seals and opens what is stored. A variable that is set to nothing names no key.
    pub fn cipher(&self) -> Result<Cipher, EncryptionError> {
        let set = |value: &'_ Option<String>| value.clone().filter(|value| !value.is_empty());
        let older = set(&self.aes_fallback_keys).unwrap_or_default();
        let older = older.split(',').filter(|text| !text.is_empty());
        let older =
            older.map(|text| AesKey::read("LANGGRAPH_AES_FALLBACK_KEYS", text)).collect::<Result<Vec<_>, _>>()?;
        match set(&self.aes_key) {
            Some(text) => Ok(Cipher::new(AesKey::read("LANGGRAPH_AES_KEY", &text)?, older)),
            None if older.is_empty() => Ok(Cipher::none()),
            None => Err(EncryptionError::NoCurrentKey),
        }
    }
}

impl fmt::Debug for EncryptionArgs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EncryptionArgs(secret)")
    }
}

/// The project's own handlers, once their process has begun: what it is started from needs the storage that they stand in
/// front of.
#[derive(Default)]
pub(crate) struct LateHandlers(OnceLock<Arc<dyn SealingHandlers>>);

impl LateHandlers {
    pub(crate) fn begin(&self, handlers: Arc<dyn SealingHandlers>) {
        let _ = self.0.set(handlers);
    }

    fn handlers(&self) -> Stored<&Arc<dyn SealingHandlers>> {
        self.0.get().ok_or_else(|| StorageError::Unavailable("custom encryption has not begun yet".into()))
    }
}

#[async_trait]
impl SealingHandlers for LateHandlers {
    async fn encrypt(&self, piece: Piece) -> Stored<Data> {
        self.handlers()?.encrypt(piece).await
    }

    async fn decrypt(&self, piece: Piece) -> Stored<Data> {
        self.handlers()?.decrypt(piece).await
    }

    async fn context(&self, user: Option<&User>, said: Object) -> Stored<Object> {
        self.handlers()?.context(user, said).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(key: &str, older: &str) -> EncryptionArgs {
        EncryptionArgs { aes_key: Some(key.into()), aes_fallback_keys: Some(older.into()) }
    }

    #[test]
    fn keys_are_read_and_never_shown() {
        assert_eq!(args("", "").cipher().unwrap().key_id(), None);
        let cipher = args("the current one!", "the older one!!!,the oldest one!!").cipher().unwrap();
        assert_eq!((cipher.key_id().unwrap().len(), cipher.older_key_ids().len()), (8, 2));
        assert_eq!(args("", "the older one!!!").cipher().unwrap_err(), EncryptionError::NoCurrentKey);
        for (key, older, named) in [
            ("short", "", "LANGGRAPH_AES_KEY has 5"),
            ("the current one!", "short", "LANGGRAPH_AES_FALLBACK_KEYS has 5"),
        ] {
            let refused = args(key, older).cipher().unwrap_err().to_string();
            assert!(refused.contains(named) && !refused.contains("short"), "{refused}");
        }
        assert!(!format!("{:?}", args("the current one!", "")).contains("current"));
    }
}
