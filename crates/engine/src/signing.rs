//! Signatures of webhooks as the Standard Webhooks specification describes them, and the check of them.
//!
//! The key of a receiver is derived from the master key and the receiver's origin: nobody has to register it, and what
//! one receiver knows is of no use against another.

use std::{
    str::FromStr,
    sync::{PoisonError, RwLock},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier, VerifyingKey};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use threadyard_core::{
    ambient::Ambient,
    time::Timestamp,
    webhook_keys::{MasterKey, WebhookKey},
};

/// How far the clock of a receiver may be off, in seconds.
const TOLERANCE: u64 = 300;

/// A new master key.
pub(crate) fn new_master(ambient: &Ambient) -> MasterKey {
    let mut digest = Sha256::new();
    // A random UUID holds 122 random bits.
    for _ in 0..4 {
        digest.update(ambient.random().as_bytes());
    }
    MasterKey(digest.finalize().into())
}

/// The master key that a text stands for.
pub fn master_of(text: &str) -> MasterKey {
    MasterKey(derived(text.as_bytes(), "webhook/master/"))
}

/// Signs with every key that is valid.
pub(crate) struct Signer {
    keys: RwLock<Vec<Keys>>,
}

struct Keys {
    stored: WebhookKey,
    ed25519: SigningKey,
}

/// A key as it is handed out, with the time until which it signs.
#[derive(Clone, Debug)]
pub struct ShownKey {
    /// `whsec_…` or `whpk_…`.
    pub key: String,
    /// When it signs no more; never, while it is the newest.
    pub expires_at: Option<Timestamp>,
}

impl Signer {
    /// Signs with these keys.
    pub(crate) fn new(keys: Vec<WebhookKey>) -> Self {
        Self { keys: RwLock::new(keys.into_iter().map(Keys::of).collect()) }
    }

    /// Signs with these keys from now on.
    pub(crate) fn replace(&self, keys: Vec<WebhookKey>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into_iter().map(Keys::of).collect();
    }

    /// The header `webhook-signature` of a message to a receiver.
    pub(crate) fn signature(&self, origin: &str, message: Message<'_>, now: Timestamp) -> String {
        let message = message.signed();
        let sign = |keys: &Keys| {
            let hmac = hmac(&receiver_key(&keys.stored.master, origin), &message).finalize().into_bytes();
            let ed25519 = keys.ed25519.sign(&message).to_bytes();
            format!("v1,{} v1a,{}", STANDARD.encode(hmac), STANDARD.encode(ed25519))
        };
        self.with_valid(now, sign).join(" ")
    }

    /// What the receiver at an origin checks signatures with, the newest first.
    pub(crate) fn secrets(&self, origin: &str, now: Timestamp) -> Vec<ShownKey> {
        self.with_valid(now, |keys| {
            let key = format!("whsec_{}", STANDARD.encode(receiver_key(&keys.stored.master, origin)));
            ShownKey { key, expires_at: keys.stored.expires_at }
        })
    }

    /// What anybody can check signatures with, the newest first.
    pub(crate) fn public_keys(&self, now: Timestamp) -> Vec<ShownKey> {
        self.with_valid(now, |keys| {
            let key = format!("whpk_{}", STANDARD.encode(keys.ed25519.verifying_key().as_bytes()));
            ShownKey { key, expires_at: keys.stored.expires_at }
        })
    }

    fn with_valid<T>(&self, now: Timestamp, of: impl Fn(&Keys) -> T) -> Vec<T> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().filter(|keys| keys.stored.expires_at.is_none_or(|end| end > now)).map(of).collect()
    }
}

impl Keys {
    fn of(stored: WebhookKey) -> Self {
        let ed25519 = SigningKey::from_bytes(&derived(&stored.master.0, "webhook/v1a"));
        Self { stored, ed25519 }
    }
}

/// Why a signature is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// The key is none.
    #[error("the key must be `whsec_` or `whpk_` and base64")]
    Key,
    /// The message is too old, or from the future.
    #[error("the timestamp is more than five minutes off")]
    Time,
    /// No signature fits.
    #[error("no signature of the message fits the key")]
    Mismatch,
}

/// What a receiver checks signatures with.
pub enum ReceiverKey {
    /// `whsec_…`, for signatures of the kind `v1`.
    Secret(Vec<u8>),
    /// `whpk_…`, for signatures of the kind `v1a`.
    Public(VerifyingKey),
}

impl FromStr for ReceiverKey {
    type Err = BadSignature;

    fn from_str(text: &str) -> Result<Self, BadSignature> {
        if let Some(secret) = text.strip_prefix("whsec_") {
            return STANDARD.decode(secret).map(Self::Secret).map_err(|_| BadSignature::Key);
        }
        let public = text.strip_prefix("whpk_").and_then(|key| STANDARD.decode(key).ok());
        let public = public.and_then(|key| VerifyingKey::from_bytes(&key.try_into().ok()?).ok());
        public.map(Self::Public).ok_or(BadSignature::Key)
    }
}

impl ReceiverKey {
    /// Checks a message at a moment, in seconds since 1970.
    pub fn verify(&self, message: Message<'_>, signatures: &str, now: i64) -> Result<(), BadSignature> {
        if now.abs_diff(message.timestamp) > TOLERANCE {
            return Err(BadSignature::Time);
        }
        let message = message.signed();
        let given = signatures.split(' ').filter_map(|signature| signature.split_once(','));
        let fits = |(kind, signature): (&str, &str)| match (self, kind, STANDARD.decode(signature)) {
            (Self::Secret(secret), "v1", Ok(given)) => hmac(secret, &message).verify_slice(&given).is_ok(),
            (Self::Public(public), "v1a", Ok(given)) => {
                Signature::from_slice(&given).is_ok_and(|signature| public.verify(&message, &signature).is_ok())
            }
            _ => false,
        };
        if given.into_iter().any(fits) { Ok(()) } else { Err(BadSignature::Mismatch) }
    }
}

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The header `webhook-id`.
    pub id: &'a str,
    /// The header `webhook-timestamp`, in seconds since 1970.
    pub timestamp: i64,
    /// The body, to the byte.
    pub body: &'a [u8],
}

impl Message<'_> {
    fn signed(&self) -> Vec<u8> {
        let mut signed = format!("{}.{}.", self.id, self.timestamp).into_bytes();
        signed.extend_from_slice(self.body);
        signed
    }
}

fn receiver_key(master: &MasterKey, origin: &str) -> [u8; 32] {
    derived(&master.0, &format!("webhook/v1/{origin}"))
}

fn derived(from: &[u8], purpose: &str) -> [u8; 32] {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(None, from).expand(purpose.as_bytes(), &mut key).expect("32 bytes are within what HKDF gives");
    key
}

fn hmac(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    hmac.update(message);
    hmac
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_767_000_000;
    const ORIGIN: &str = "https://example.com";

    fn key(version: u32, byte: u8, expires_at: Option<i64>) -> WebhookKey {
        let expires_at = expires_at.map(|seconds| Timestamp(seconds * 1_000_000));
        WebhookKey { version, master: MasterKey([byte; 32]), created_at: Timestamp(0), expires_at }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    fn keys(signer: &Signer, origin: &str) -> [ReceiverKey; 2] {
        let shown = [signer.secrets(origin, at(NOW)).remove(0), signer.public_keys(at(NOW)).remove(0)];
        shown.map(|shown| shown.key.parse().unwrap())
    }

    fn message(id: &'static str, timestamp: i64, body: &'static str) -> Message<'static> {
        Message { id, timestamp, body: body.as_bytes() }
    }

    #[test]
    fn both_kinds_of_keys_check_a_message_and_refuse_what_was_tampered_with() {
        let signer = Signer::new(vec![key(1, 1, None)]);
        let signatures = signer.signature(ORIGIN, message("msg_1", NOW, "{}"), at(NOW));
        for key in keys(&signer, ORIGIN) {
            let check = |id, timestamp, body, now| key.verify(message(id, timestamp, body), &signatures, now);
            assert_eq!(check("msg_1", NOW, "{}", NOW + 300), Ok(()));
            assert_eq!(check("msg_1", NOW, "{}", NOW + 301), Err(BadSignature::Time));
            assert_eq!(check("msg_1", NOW, "{}", i64::MIN), Err(BadSignature::Time));
            assert_eq!(check("msg_1", NOW, "{ }", NOW), Err(BadSignature::Mismatch));
            assert_eq!(check("msg_2", NOW, "{}", NOW), Err(BadSignature::Mismatch));
            assert_eq!(check("msg_1", NOW + 1, "{}", NOW), Err(BadSignature::Mismatch));
            let others = key.verify(message("msg_1", NOW, "{}"), "v1,AAAA v1a,AAAA v2,x junk", NOW);
            assert_eq!(others, Err(BadSignature::Mismatch));
        }
        for text in ["", "whsec_?", "whpk_AAAA", "key"] {
            assert_eq!(text.parse::<ReceiverKey>().err(), Some(BadSignature::Key));
        }
    }

    #[test]
    fn the_stock_crate_checks_a_message() {
        let signer = Signer::new(vec![key(1, 1, None)]);
        let now = Ambient::system().now();
        let seconds = now.as_millis() / 1_000;
        let signatures = signer.signature(ORIGIN, message("msg_1", seconds, "{}"), now);
        let mut headers = http::HeaderMap::new();
        headers.insert("webhook-id", "msg_1".parse().unwrap());
        headers.insert("webhook-timestamp", seconds.to_string().parse().unwrap());
        headers.insert("webhook-signature", signatures.parse().unwrap());
        let stock = standardwebhooks::Webhook::new(&signer.secrets(ORIGIN, now).remove(0).key).unwrap();
        assert!(stock.verify(b"{}", &headers).is_ok());
        assert!(stock.verify(b"{ }", &headers).is_err());
    }

    #[test]
    fn what_one_receiver_knows_is_of_no_use_against_another() {
        let signer = Signer::new(vec![key(1, 1, None)]);
        let [secret, _] = keys(&signer, "https://example.org");
        let signatures = signer.signature(ORIGIN, message("msg_1", NOW, "{}"), at(NOW));
        assert_eq!(secret.verify(message("msg_1", NOW, "{}"), &signatures, NOW), Err(BadSignature::Mismatch));
    }

    #[test]
    fn old_keys_sign_until_they_expire() {
        let old = Signer::new(vec![key(1, 1, None)]);
        let signer = Signer::new(vec![key(2, 2, None), key(1, 1, Some(NOW + 10))]);
        for key in keys(&old, ORIGIN) {
            for (seconds, expected) in [(NOW + 9, Ok(())), (NOW + 10, Err(BadSignature::Mismatch))] {
                let signatures = signer.signature(ORIGIN, message("msg_1", seconds, "{}"), at(seconds));
                assert_eq!(key.verify(message("msg_1", seconds, "{}"), &signatures, seconds), expected);
            }
        }
    }
}
