//! Encryption at rest: the one place where what users say is sealed before it is stored, and opened after it was read.
//!
//! A sealed value says how it is sealed and with which key, and opens only in the place where it was written. Each is
//! sealed with a key of its own, which comes from the operator's key and twelve random bytes: so many values can be sealed
//! with one key as nobody will ever write, which nonces of twelve bytes alone do not allow.

mod admission;
mod keys;
mod place;

use std::{borrow::Cow, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use threadyard_core::storage::{Result, StorageError};

use self::keys::{ID, NONCE, TAG};
pub use self::{
    admission::KeyMismatch,
    keys::{AesKey, AesKeyError},
};
pub(crate) use self::{
    admission::KnownKey,
    place::{Growth, Place},
};
use crate::documents;

/// How what is sealed begins. Neither JSON nor msgpack nor what is packed here begins so.
const SEALED: [u8; 3] = [0xc1, b'T', b'Y'];
/// How the text of what is sealed begins, where a column holds texts; JSON and URLs begin otherwise.
pub(crate) const SEALED_TEXT: char = '~';
/// The version of a value that is sealed as it is.
const WHOLE: u8 = 1;
/// The version of one that was made shorter before.
const SHORTENED: u8 = 2;
/// The lengths of what stands before the ciphertext.
const VERSION_END: usize = SEALED.len() + 1;
const ID_END: usize = VERSION_END + ID;
const HEADER: usize = ID_END + NONCE;

/// Longer texts take too long to shorten while everybody waits for the writer.
const PACKABLE: usize = 64 << 10;

/// Seals and opens with the operator's keys; without any, everything stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Cipher(Option<Arc<Keys>>, WithHandlers);

/// Whether what is written was encrypted by handlers of the project before it came here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct WithHandlers(bool);

#[derive(Debug)]
struct Keys {
    current: AesKey,
    /// What was sealed with them is still read.
    older: Vec<AesKey>,
}

impl Keys {
    fn find(&self, id: &[u8]) -> Option<&AesKey> {
        std::iter::once(&self.current).chain(&self.older).find(|key| key.id() == id)
    }
}

impl Cipher {
    /// No encryption.
    pub fn none() -> Self {
        Self::default()
    }

    /// Seals with `current`, and opens what was sealed with it or with any of the older ones.
    pub fn new(current: AesKey, older: Vec<AesKey>) -> Self {
        Self(Some(Arc::new(Keys { current, older })), WithHandlers::default())
    }

    /// The same, for what handlers of the project have encrypted before.
    #[must_use]
    pub fn behind_handlers(self) -> Self {
        Self(self.0, WithHandlers(true))
    }

    /// The name of the key that is in force, which tells nothing of the key itself.
    pub fn key_id(&self) -> Option<String> {
        self.0.as_ref().map(|keys| keys.current.name())
    }

    /// The names of the keys that still open what was sealed with them.
    pub fn older_key_ids(&self) -> Vec<String> {
        self.0.iter().flat_map(|keys| &keys.older).map(AesKey::name).collect()
    }

    /// Seals a value for its place.
    pub(crate) fn seal<'a>(&self, place: Place<'_>, value: impl Into<Cow<'a, [u8]>>) -> Result<Cow<'a, [u8]>> {
        let value = value.into();
        match &self.0 {
            None => Ok(value),
            Some(keys) => sealed(&keys.current, WHOLE, place, &value).map(Cow::Owned),
        }
    }

    /// Seals a text for its place in a column that holds texts.
    pub(crate) fn seal_text<'a>(&self, place: Place<'_>, text: impl Into<Cow<'a, str>>) -> Result<Cow<'a, str>> {
        let text = text.into();
        let Some(keys) = &self.0 else { return Ok(text) };
        // The database can't make ciphertext shorter any more.
        let shorter = (text.len() <= PACKABLE).then(|| documents::shorter(text.as_bytes())).flatten();
        let sealed = match shorter {
            Some(shorter) => sealed(&keys.current, SHORTENED, place, &shorter)?,
            None => sealed(&keys.current, WHOLE, place, text.as_bytes())?,
        };
        let mut written = String::from(SEALED_TEXT);
        STANDARD_NO_PAD.encode_string(sealed, &mut written);
        Ok(Cow::Owned(written))
    }

    /// Opens what was stored in a place; what was stored without a key is as it was.
    pub(crate) fn open(&self, place: Place<'_>, stored: Vec<u8>) -> Result<Vec<u8>> {
        if stored.len() < HEADER + TAG || !stored.starts_with(&SEALED) {
            return Ok(stored);
        }
        let (version, id) = (stored[SEALED.len()], &stored[VERSION_END..ID_END]);
        let Some(keys) = &self.0 else {
            return Err(place.unreadable("it is encrypted; set LANGGRAPH_AES_KEY"));
        };
        let Some(key) = keys.find(id) else {
            let name = keys::name(id);
            return Err(
                place.unreadable(&format!("it is encrypted with the key {name}, which this server does not have"))
            );
        };
        let changed = || place.unreadable("it was changed, or written for another place, since it was encrypted");
        let opened = opened(key, place, &stored).ok_or_else(changed)?;
        match version {
            WHOLE => Ok(opened),
            SHORTENED => documents::whole(place.table(), &opened),
            _ => Err(place.unreadable("it is encrypted in a way that this version does not know")),
        }
    }

    /// Opens the text that a column holds.
    pub(crate) fn open_text(&self, place: Place<'_>, stored: String) -> Result<String> {
        let Some(written) = stored.strip_prefix(SEALED_TEXT) else { return Ok(stored) };
        let sealed = STANDARD_NO_PAD.decode(written).map_err(|error| place.unreadable(&error.to_string()))?;
        let opened = self.open(place, sealed)?;
        String::from_utf8(opened).map_err(|error| place.unreadable(&error.to_string()))
    }
}

/// What nobody but the holder of the key can read or change, and nobody can move to another place.
fn sealed(key: &AesKey, version: u8, place: Place<'_>, value: &[u8]) -> Result<Vec<u8>> {
    let failed = |_| StorageError::Unavailable("the machine has no random bytes to encrypt with".into());
    let nonce = keys::nonce().map_err(failed)?;
    let mut sealed = Vec::with_capacity(HEADER + value.len() + TAG);
    sealed.extend_from_slice(&SEALED);
    sealed.push(version);
    sealed.extend_from_slice(key.id());
    sealed.extend_from_slice(&nonce);
    let associated = place.associated(&sealed[..ID_END]);
    sealed.extend_from_slice(value);
    let tag = key.seal(&nonce, &associated, &mut sealed[HEADER..]).map_err(failed)?;
    sealed.extend_from_slice(&tag);
    Ok(sealed)
}

fn opened(key: &AesKey, place: Place<'_>, stored: &[u8]) -> Option<Vec<u8>> {
    let nonce = stored[ID_END..HEADER].try_into().ok()?;
    key.open(nonce, &place.associated(&stored[..ID_END]), stored[HEADER..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> AesKey {
        AesKey::read("LANGGRAPH_AES_KEY", text).unwrap()
    }

    fn item<'a>(namespace: &'a [String], key: &'a str) -> Place<'a> {
        Place::Item { namespace, key }
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_and_nowhere_else() {
        for text in ["sixteen bytes ok", "twenty-four bytes are ok", "thirty-two bytes are long enough"] {
            let cipher = Cipher::new(key(text), Vec::new());
            let (labels, others) = (["a".to_owned(), "bc".to_owned()], ["ab".to_owned(), "c".to_owned()]);
            let place = item(&labels, "k");
            for value in ["", "{}", &"\"a long one\"".repeat(100)] {
                let stored = cipher.seal_text(place, value).unwrap().into_owned();
                assert!(!stored.contains("long") && stored.len() < 100 + value.len(), "{stored}");
                assert_eq!(cipher.open_text(place, stored.clone()).unwrap(), value);
                assert!(cipher.open_text(item(&others, "k"), stored.clone()).is_err());
                assert!(cipher.open_text(item(&labels, "l"), stored).is_err());
                let stored = cipher.seal(place, value.as_bytes()).unwrap().into_owned();
                assert_eq!(cipher.open(place, stored).unwrap(), value.as_bytes());
            }
            assert_ne!(cipher.seal(place, &b"a"[..]).unwrap(), cipher.seal(place, &b"a"[..]).unwrap());
        }
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let cipher = Cipher::new(key("sixteen bytes ok"), Vec::new());
        let place = item(&[], "k");
        let stored = cipher.seal(place, &b"value"[..]).unwrap().into_owned();
        for byte in SEALED.len()..stored.len() {
            let mut changed = stored.clone();
            changed[byte] ^= 1;
            assert!(cipher.open(place, changed).is_err(), "{byte}");
        }
    }

    #[test]
    fn older_keys_open_and_the_current_one_seals() {
        let (old, new) = (key("the older one!!!"), key("the newer one!!!"));
        let place = item(&[], "k");
        let before = Cipher::new(old.clone(), Vec::new()).seal(place, &b"before"[..]).unwrap().into_owned();
        let both = Cipher::new(new.clone(), vec![old]);
        assert_eq!(both.open(place, before.clone()).unwrap(), b"before");
        let after = both.seal(place, &b"after"[..]).unwrap().into_owned();
        let only_new = Cipher::new(new, Vec::new());
        assert_eq!(only_new.open(place, after).unwrap(), b"after");
        let refused = only_new.open(place, before.clone()).unwrap_err().to_string();
        assert!(refused.contains("which this server does not have"), "{refused}");
        let refused = Cipher::none().open(place, before).unwrap_err().to_string();
        assert!(refused.contains("set LANGGRAPH_AES_KEY"), "{refused}");
    }

    #[test]
    fn what_was_stored_without_a_key_is_read_as_it_is() {
        let cipher = Cipher::new(key("sixteen bytes ok"), Vec::new());
        for plain in ["{}", "", ",\"next\":[]}", "https://a.example/"] {
            assert_eq!(cipher.open_text(item(&[], "k"), plain.into()).unwrap(), plain);
            assert_eq!(cipher.open(item(&[], "k"), plain.into()).unwrap(), plain.as_bytes());
            assert_eq!(Cipher::none().seal_text(item(&[], "k"), plain).unwrap(), plain);
        }
    }
}
