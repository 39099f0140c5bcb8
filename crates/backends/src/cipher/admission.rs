//! Whether a server has the keys of a database: each key that anything was sealed with has left a check value there.

use super::{Cipher, Place};

/// What every key has sealed once.
const CHECK: &str = "the key is the right one";

/// What is noted in the place of a key where handlers of a project encrypt.
const HANDLERS: &str = "encryption.path";

/// A key that values of a database are sealed with, as a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownKey {
    /// What people call the key.
    pub(crate) id: String,
    /// The check value, sealed with it.
    pub(crate) sealed: String,
}

/// Why a server can't work with a database. No key is repeated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyMismatch {
    /// The server has no key.
    #[error("the database is encrypted with the key {0}; start the server with it in LANGGRAPH_AES_KEY")]
    NoKey(String),
    /// The server has other keys.
    #[error(
        "the database holds values that are encrypted with the key {found}, and LANGGRAPH_AES_KEY is the key {current}; \
         start the server with the former in LANGGRAPH_AES_KEY, or among LANGGRAPH_AES_FALLBACK_KEYS"
    )]
    Missing {
        /// The key that is missing.
        found: String,
        /// The one that is there.
        current: String,
    },
    /// The key has the name of the right one.
    #[error("the key {0} does not open what was encrypted with the key of that name: it is another one")]
    Wrong(String),
    /// What is there was encrypted by handlers of a project, and there are none.
    #[error(
        "the database holds what the handlers of `encryption.path` encrypted; start the server with a langgraph.json that \
         names them, or tell `threadyard import` of them with --custom-encryption"
    )]
    NoHandlers,
    /// There are no random bytes.
    #[error("the check value of the key can't be made: {0}")]
    NotMade(String),
}

impl Cipher {
    /// Finds the keys of all that is in a database among those that are here. The current one is to be added when values
    /// are sealed with it for the first time.
    pub(crate) fn admit(&self, known: &[KnownKey]) -> Result<Vec<KnownKey>, KeyMismatch> {
        let (handlers, keys): (Vec<_>, Vec<_>) = known.iter().cloned().partition(|key| key.id == HANDLERS);
        let mut new: Vec<_> = self.admit_key(&keys)?.into_iter().collect();
        match (handlers.is_empty(), self.1.0) {
            (false, false) => return Err(KeyMismatch::NoHandlers),
            (true, true) => new.push(KnownKey { id: HANDLERS.into(), sealed: String::new() }),
            _ => {}
        }
        Ok(new)
    }

    fn admit_key(&self, known: &[KnownKey]) -> Result<Option<KnownKey>, KeyMismatch> {
        let Some(current) = self.key_id() else {
            return known.first().map_or(Ok(None), |key| Err(KeyMismatch::NoKey(key.id.clone())));
        };
        for key in known {
            if !self.has(&key.id) {
                return Err(KeyMismatch::Missing { found: key.id.clone(), current });
            }
            // The id of a key is short, so that another may have the same.
            if self.open_text(Place::Check, key.sealed.clone()).ok().as_deref() != Some(CHECK) {
                return Err(KeyMismatch::Wrong(key.id.clone()));
            }
        }
        if known.iter().any(|key| key.id == current) {
            return Ok(None);
        }
        let sealed = self.seal_text(Place::Check, CHECK).map_err(|error| KeyMismatch::NotMade(error.to_string()))?;
        Ok(Some(KnownKey { id: current, sealed: sealed.into_owned() }))
    }

    fn has(&self, id: &str) -> bool {
        self.0
            .as_ref()
            .is_some_and(|keys| std::iter::once(&keys.current).chain(&keys.older).any(|key| key.name() == id))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::AesKey, *};

    #[test]
    fn a_database_is_opened_with_its_keys_and_no_others() {
        let key = |text: &str| AesKey::read("LANGGRAPH_AES_KEY", text).unwrap();
        let (old, new) = (key("the older one!!!"), key("the newer one!!!"));
        let before = Cipher::new(old.clone(), Vec::new());
        assert_eq!(Cipher::none().admit(&[]), Ok(Vec::new()));
        let first = before.admit(&[]).unwrap().remove(0);
        assert_eq!(before.admit(std::slice::from_ref(&first)), Ok(Vec::new()));
        assert_eq!(Cipher::none().admit(std::slice::from_ref(&first)), Err(KeyMismatch::NoKey(old.name())));

        let after = Cipher::new(new.clone(), Vec::new());
        let missing = KeyMismatch::Missing { found: old.name(), current: new.name() };
        assert_eq!(after.admit(std::slice::from_ref(&first)), Err(missing));
        let both = Cipher::new(new.clone(), vec![old.clone()]);
        let second = both.admit(std::slice::from_ref(&first)).unwrap().remove(0);
        assert_eq!(second.id, new.name());
        assert_eq!(both.admit(&[first, second.clone()]), Ok(Vec::new()));

        let renamed = KnownKey { id: old.name(), ..second };
        assert_eq!(before.admit(&[renamed]), Err(KeyMismatch::Wrong(old.name())));
    }

    #[test]
    fn what_handlers_encrypted_is_opened_with_handlers_only() {
        let key = AesKey::read("LANGGRAPH_AES_KEY", "the only one !!!").unwrap();
        for cipher in [Cipher::none(), Cipher::new(key, Vec::new())] {
            let before = cipher.admit(&[]).unwrap();
            let behind = cipher.clone().behind_handlers();
            let noted = [before.clone(), behind.admit(&before).unwrap()].concat();
            assert_eq!((noted.len(), behind.admit(&noted)), (before.len() + 1, Ok(Vec::new())));
            assert_eq!(cipher.admit(&noted), Err(KeyMismatch::NoHandlers));
        }
    }
}
