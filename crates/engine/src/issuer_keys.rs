//! The public keys of an identity provider (JWKS): fetched when they are needed, kept for a while, and fetched anew when a
//! token names one that is not among them.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use reqwest::redirect::Policy;
use serde::{Deserialize, de::DeserializeOwned};
use threadyard_core::{
    access::AccessError,
    ambient::Ambient,
    time::Timestamp,
    tokens::{TokenRules, is_private_way},
};
use tokio::sync::Mutex;
use url::Url;

use crate::Error;

/// Keys are believed for so long without asking again.
const FRESH: Duration = Duration::from_mins(10);
/// They are believed for so long while the provider does not answer.
const USABLE: Duration = Duration::from_hours(1);
/// Nobody makes this server ask more often, whatever keys their tokens name.
const PAUSE: Duration = Duration::from_secs(10);
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// The largest answer that is read.
const MAX_ANSWER: usize = 1 << 20;

pub(crate) struct IssuerKeys {
    issuer: String,
    jwks_url: Option<Url>,
    http: reqwest::Client,
    ambient: Ambient,
    known: RwLock<Option<Known>>,
    /// When the provider was asked last. Held by whoever asks it.
    asked: Mutex<Option<Timestamp>>,
}

#[derive(Clone)]
struct Known {
    keys: JwkSet,
    at: Timestamp,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

impl IssuerKeys {
    pub(crate) fn new(rules: &TokenRules, ambient: Ambient) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("threadyard/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .timeout(ANSWERS_WITHIN)
            .build()
            .map_err(|error| Error::Internal(format!("no HTTP client: {error}")))?;
        Ok(Self {
            issuer: rules.issuer.clone(),
            jwks_url: rules.jwks_url.clone(),
            http,
            ambient,
            known: RwLock::default(),
            asked: Mutex::default(),
        })
    }

    /// The key that a token names; the only one when it names none. Nothing when the issuer has no such key.
    pub(crate) async fn key(&self, id: Option<&str>) -> Result<Option<Jwk>, AccessError> {
        let now = self.ambient.now();
        let known = self.known();
        let found = known.as_ref().and_then(|known| chosen(&known.keys, id));
        let is_fresh = known.as_ref().is_some_and(|known| now.since(known.at) < FRESH);
        if is_fresh && found.is_some() {
            return Ok(found);
        }
        // Whoever has what they need does not wait for the provider while another one asks it.
        let asked = match found {
            Some(_) => self.asked.try_lock().ok(),
            None => Some(self.asked.lock().await),
        };
        if let Some(mut asked) = asked
            && asked.is_none_or(|asked| now.since(asked) >= PAUSE)
        {
            *asked = Some(now);
            match self.fetch().await {
                Ok(keys) => *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(Known { keys, at: now }),
                Err(why) => {
                    tracing::warn!(issuer = self.issuer, why, "the keys of the issuer of tokens can't be fetched");
                }
            }
        }
        match self.known().filter(|known| now.since(known.at) < USABLE) {
            Some(known) => Ok(chosen(&known.keys, id)),
            None => Err(AccessError::Unavailable("the issuer of tokens does not answer".into())),
        }
    }

    fn known(&self) -> Option<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        let url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        self.get(url).await
    }

    /// Where the issuer's own configuration says that its keys are.
    async fn discover(&self) -> Result<Url, String> {
        let place = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let place = place.parse().map_err(|_| "the issuer is no URL".to_owned())?;
        let Discovered { issuer, jwks_uri } = self.get(place).await?;
        if issuer != self.issuer {
            return Err(format!("its configuration is that of another issuer, `{issuer}`"));
        }
        match jwks_uri.parse() {
            Ok(place) if is_private_way(&place) => Ok(place),
            _ => Err(format!("its configuration names `{jwks_uri}`, which is not https")),
        }
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, String> {
        let failed = |error: reqwest::Error| error.without_url().to_string();
        let mut answer = self.http.get(url).send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(format!("it answered {}", answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err("its answer is too large".into());
            }
        }
        serde_json::from_slice(&body).map_err(|error| format!("its answer makes no sense: {error}"))
    }
}

fn chosen(keys: &JwkSet, id: Option<&str>) -> Option<Jwk> {
    let signs = |key: &&Jwk| key.common.public_key_use != Some(PublicKeyUse::Encryption);
    let mut signing = keys.keys.iter().filter(signs);
    match id {
        Some(id) => signing.find(|key| key.common.key_id.as_deref() == Some(id)).cloned(),
        None => signing.next().filter(|_| signing.next().is_none()).cloned(),
    }
}
