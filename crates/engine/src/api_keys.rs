//! API keys: making them, and knowing who holds one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use threadyard_core::{
    access::{AccessError, User},
    ambient::Ambient,
    api_keys::{ApiKey, KeyDigest},
    storage::{Storage, StorageError},
    time::Timestamp,
};
use tokio_util::task::TaskTracker;

/// What all keys begin with.
const MARK: &str = "ty_";
/// So many characters follow that tell keys apart, and may be shown.
const SHOWN: usize = 12;
/// A key that was looked up is believed for so long: whoever takes it back waits no longer than this.
pub const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// So many are remembered.
const REMEMBERED: usize = 4_096;
/// That a key is in use is noted once in so long.
const NOTED_EVERY: Duration = Duration::from_hours(1);

/// A key that was just made. Nobody sees its text again.
pub struct NewApiKey {
    /// What it begins with.
    pub id: String,
    /// The whole of it.
    pub text: String,
    /// What is kept of it.
    pub digest: KeyDigest,
}

/// Makes a key: what it begins with says which it is, the rest opens.
pub fn new_api_key(ambient: &Ambient) -> NewApiKey {
    let mut secret = Sha256::new();
    // A random UUID holds 122 random bits.
    for _ in 0..4 {
        secret.update(ambient.random().as_bytes());
    }
    let shown: String = ambient.random().simple().to_string().chars().rev().take(SHOWN).collect();
    let id = format!("{MARK}{shown}");
    let text = format!("{id}_{}", BASE64_URL_SAFE_NO_PAD.encode(secret.finalize()));
    NewApiKey { digest: digest(&text), id, text }
}

/// Whether a text looks like one of our keys.
pub(crate) fn is_api_key(text: &str) -> bool {
    id(text).is_some()
}

fn id(text: &str) -> Option<&str> {
    let (id, secret) = text.split_at_checked(MARK.len() + SHOWN)?;
    let shown = id.strip_prefix(MARK)?;
    (shown.bytes().all(|it| it.is_ascii_hexdigit()) && secret.starts_with('_')).then_some(id)
}

/// The text has as many random bits as its digest, so that nobody finds it by trying.
fn digest(text: &str) -> KeyDigest {
    KeyDigest(Sha256::digest(text).into())
}

/// The keys in storage, of which those that are in use are remembered for a moment.
pub(crate) struct KnownKeys {
    storage: Arc<dyn Storage>,
    ambient: Ambient,
    known: Mutex<HashMap<String, Known>>,
    /// What notes that keys are in use, which nobody waits for.
    notes: TaskTracker,
}

#[derive(Clone)]
struct Known {
    until: Timestamp,
    key: ApiKey,
    digest: KeyDigest,
}

impl KnownKeys {
    pub(crate) fn new(storage: Arc<dyn Storage>, ambient: Ambient) -> Self {
        Self { storage, ambient, known: Mutex::default(), notes: TaskTracker::new() }
    }

    /// Who holds a key.
    pub(crate) async fn holder(&self, text: &str) -> Result<User, AccessError> {
        let unknown = || AccessError::unauthenticated("Unauthorized: the API key is not known");
        let Known { key, digest: kept, .. } = self.find(id(text).ok_or_else(unknown)?).await?.ok_or_else(unknown)?;
        if !bool::from(digest(text).0.ct_eq(&kept.0)) {
            return Err(unknown());
        }
        if !key.is_valid(self.ambient.now()) {
            let why = if key.revoked_at.is_some() { "was revoked" } else { "has expired" };
            return Err(AccessError::unauthenticated(&format!("Unauthorized: the API key {why}")));
        }
        self.note_use(&key);
        let user = json!({
            "identity": key.identity, "permissions": key.scopes, "display_name": key.name, "api_key_id": key.id,
        });
        serde_json::from_value(user).map_err(|error| AccessError::Failed(error.to_string()))
    }

    /// Notes that a key is in use, where that was not noted for long.
    fn note_use(&self, key: &ApiKey) {
        let now = self.ambient.now();
        let is_due = |noted: Option<Timestamp>| noted.is_none_or(|noted| noted + NOTED_EVERY <= now);
        if !is_due(key.last_used_at) {
            return;
        }
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&key.id) {
            // Others may have come with it at the same time.
            if !is_due(known.key.last_used_at.replace(now)) {
                return;
            }
        }
        let (storage, id) = (self.storage.clone(), key.id.clone());
        self.notes.spawn(async move {
            let noted_after = Timestamp(now.0 - i64::try_from(NOTED_EVERY.as_micros()).unwrap_or(i64::MAX));
            // A moment that is not noted is noted by the next one who comes.
            if let Err(error) = storage.note_use_of_api_key(&id, now, noted_after).await {
                tracing::debug!(id, %error, "that an API key is in use could not be noted");
            }
        });
    }

    async fn find(&self, id: &str) -> Result<Option<Known>, AccessError> {
        let now = self.ambient.now();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(known) = known.filter(|known| now < known.until) {
            return Ok(Some(known));
        }
        let found = self.storage.api_key(id).await.map_err(|error| match error {
            StorageError::Unavailable(why) => AccessError::Unavailable(why),
            other => AccessError::Failed(other.to_string()),
        })?;
        let found = found.map(|(key, digest)| Known { until: now + HEARD_WITHIN, key, digest });
        if let Some(found) = &found {
            self.keep(id, found.clone(), now);
        }
        Ok(found)
    }

    fn keep(&self, id: &str, found: Known, now: Timestamp) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, known| now < known.until);
        }
        if known.len() < REMEMBERED {
            known.insert(id.to_owned(), found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_other_texts_and_say_which_they_are() {
        let made = new_api_key(&Ambient::system());
        assert_eq!((made.id.len(), made.text.len()), (15, 15 + 1 + 43));
        assert_eq!(id(&made.text), Some(made.id.as_str()));
        assert_eq!(digest(&made.text), made.digest);
        assert_ne!(new_api_key(&Ambient::system()).text, made.text);
        for other in ["", "ty_", "lsv2_pt_0123456789abcdef_0123", "ty_0123456789ab", "ty_0123456789é_x", "a.b.c"] {
            assert!(!is_api_key(other), "{other}");
        }
    }
}
