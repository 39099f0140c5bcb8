//! The keys that webhooks are signed with: handing them out, and rotating them.

use std::time::Duration;

use threadyard_core::{time::Timestamp, webhooks::origin};

use crate::{
    Engine, Error, Result,
    signing::{ShownKey, new_master},
};

/// How long keys go on signing after a rotation unless said.
pub const USUAL_GRACE: Duration = Duration::from_hours(24);

impl Engine {
    /// The origin of a receiver's URL, and what it checks signatures with, the newest first.
    pub fn webhook_secrets(&self, url: &str) -> Result<(String, Vec<ShownKey>)> {
        self.operators_only()?;
        let origin =
            origin(url).ok_or_else(|| Error::Invalid("origin: must be a URL such as https://example.com".into()))?;
        let secrets = self.signer.secrets(&origin, self.ambient.now());
        Ok((origin, secrets))
    }

    /// What anybody can check signatures with, the newest first.
    pub fn webhook_public_keys(&self) -> Vec<ShownKey> {
        self.signer.public_keys(self.ambient.now())
    }

    /// Makes a new key. The old ones sign beside it for `grace`; the moment when they end.
    pub async fn rotate_webhook_keys(&self, grace: Duration) -> Result<Timestamp> {
        self.operators_only()?;
        if self.settings.webhook_master.is_some() {
            return Err(Error::Refused("the key comes from LG_WEBHOOK_SIGNING_SECRET; change it there".into()));
        }
        let now = self.ambient.now();
        let until = now + grace;
        self.storage.rotate_webhook_key(new_master(&self.ambient), now, until).await?;
        let keys = self.storage.webhook_keys(new_master(&self.ambient), now).await?;
        self.signer.replace(keys);
        Ok(until)
    }
}
