//! The operator's keys, and what is derived from them. None of them is ever shown.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    rand,
};

/// How many bytes name a key.
pub(super) const ID: usize = 4;
/// Half of it goes into the key of a value, the rest is the nonce of its cipher.
pub(super) const NONCE: usize = 24;
/// How many bytes tell whether a value was changed.
pub(super) const TAG: usize = 16;

/// Sets what is derived here apart from whatever else somebody derives from the same key.
const PURPOSE: &[u8] = b"threadyard, values at rest, 1";

/// A key of 128, 192 or 256 bits.
#[derive(Clone)]
pub struct AesKey {
    id: [u8; ID],
    derived: Prk,
}

/// Why a text is no key. It does not repeat the text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} has {found} bytes; an AES key has 16, 24 or 32, such as what `openssl rand -base64 24` prints, which has 32"
)]
pub struct AesKeyError {
    name: &'static str,
    found: usize,
}

struct IdLength;

impl KeyType for IdLength {
    fn len(&self) -> usize {
        ID
    }
}

impl AesKey {
    /// Reads a key from the setting `name`. Upstream: its bytes are those of the text, which is not decoded.
    pub fn read(name: &'static str, text: &str) -> Result<Self, AesKeyError> {
        let error = AesKeyError { name, found: text.len() };
        if ![16, 24, 32].contains(&text.len()) {
            return Err(error);
        }
        let derived = Salt::new(HKDF_SHA256, PURPOSE).extract(text.as_bytes());
        let mut id = [0; ID];
        derived.expand(&[b"id"], IdLength).and_then(|it| it.fill(&mut id)).map_err(|_| error)?;
        Ok(Self { id, derived })
    }

    pub(super) fn id(&self) -> &[u8] {
        &self.id
    }

    /// What people call it.
    pub fn name(&self) -> String {
        name(&self.id)
    }

    /// Encrypts in place, and says what tells whether the value was changed.
    pub(super) fn seal(
        &self,
        nonce: &[u8; NONCE],
        associated: &[u8],
        value: &mut [u8],
    ) -> Result<[u8; TAG], Unspecified> {
        let (key, nonce) = self.of_value(nonce)?;
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(associated), value)?;
        tag.as_ref().try_into().map_err(|_| Unspecified)
    }

    /// Decrypts what `seal` has encrypted, with the tag behind it.
    pub(super) fn open(&self, nonce: &[u8; NONCE], associated: &[u8], mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let (key, nonce) = self.of_value(nonce).ok()?;
        let length = key.open_in_place(nonce, Aad::from(associated), &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }

    fn of_value(&self, nonce: &[u8; NONCE]) -> Result<(LessSafeKey, Nonce), Unspecified> {
        let (of_key, of_cipher) = nonce.split_at(NONCE / 2);
        let key = UnboundKey::from(self.derived.expand(&[b"value", of_key], &AES_256_GCM)?);
        Ok((LessSafeKey::new(key), Nonce::try_assume_unique_for_key(of_cipher)?))
    }
}

/// What people call the key with this id.
pub(super) fn name(id: &[u8]) -> String {
    id.iter().fold(String::new(), |name, byte| name + &format!("{byte:02x}"))
}

pub(super) fn nonce() -> Result<[u8; NONCE], Unspecified> {
    let mut nonce = [0; NONCE];
    rand::fill(&mut nonce)?;
    Ok(nonce)
}

impl fmt::Debug for AesKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "AesKey({})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_length_of_one_and_is_not_shown() {
        for length in [16, 24, 32] {
            let key = AesKey::read("LANGGRAPH_AES_KEY", &"k".repeat(length)).unwrap();
            assert_eq!(format!("{key:?}"), format!("AesKey({})", key.name()));
        }
        for length in [0, 15, 17, 31, 33, 44] {
            let refused = AesKey::read("LANGGRAPH_AES_KEY", &"k".repeat(length)).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("LANGGRAPH_AES_KEY has {length} bytes")) && !refused.contains("kkk"));
        }
        let names =
            ["one key with 16..", "another key w/16"].map(|text| AesKey::read("k", &text[..16]).unwrap().name());
        assert_ne!(names[0], names[1]);
    }
}
