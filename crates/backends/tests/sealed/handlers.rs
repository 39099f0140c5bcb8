//! Handlers that do as a test says, with what was encrypted for the tenant `lost`.

use std::sync::Mutex;

use async_trait::async_trait;
use threadyard_core::{
    access::User,
    json::{Object, RawJson, RawObject, raw},
    sealing::{Data, Piece, SealingHandlers},
    storage::{Result, StorageError},
};

/// What decrypting for the tenant `lost` comes to.
#[derive(Clone, Copy, Default)]
pub(crate) enum Mood {
    #[default]
    Well,
    Raise,
    Gone,
    Silent,
    /// Encrypting comes to nothing, too.
    Mute,
}

/// Turns bytes, and all members of objects but `colour`.
pub(crate) struct Handlers {
    mood: Mutex<Mood>,
    open: &'static [&'static str],
}

impl Handlers {
    /// Handlers that leave some fields as they are.
    pub(crate) fn leaving(open: &'static [&'static str]) -> Self {
        Self { mood: Mutex::default(), open }
    }

    pub(crate) fn are(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }
}

fn is_lost(piece: &Piece) -> bool {
    piece.context.get("tenant").is_some_and(|tenant| tenant == "lost")
}

const TURNED: &str = "\"turned:";

fn turned(json: &RawJson) -> RawJson {
    raw(&format!("turned:{}", json.get().chars().rev().collect::<String>()))
}

fn back(json: &RawJson) -> Option<RawJson> {
    if !json.get().starts_with(TURNED) {
        return None;
    }
    let text: String = serde_json::from_str(json.get()).unwrap();
    serde_json::from_str(&text["turned:".len()..].chars().rev().collect::<String>()).ok()
}

#[async_trait]
impl SealingHandlers for Handlers {
    async fn encrypt(&self, piece: Piece) -> Result<Data> {
        if is_lost(&piece) && matches!(self.mood(), Mood::Mute) {
            std::future::pending::<()>().await;
        }
        if piece.context.get("tenant").is_some_and(|tenant| tenant == "slow") {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        }
        Ok(match piece.data {
            Data::Blob(bytes) => Data::Blob(bytes.iter().map(|byte| byte ^ 0x5A).collect::<Vec<_>>().into()),
            Data::Json(_) if self.open.contains(&piece.field.as_str()) => Data::Json(RawObject::default()),
            Data::Json(members) => {
                let members = members.into_iter().filter(|(key, _)| key != "colour");
                Data::Json(members.map(|(key, value)| (key, turned(&value))).collect())
            }
        })
    }

    async fn decrypt(&self, piece: Piece) -> Result<Data> {
        if is_lost(&piece) {
            match self.mood() {
                Mood::Well => {}
                Mood::Raise => return Err(StorageError::Sealing("decrypt raised KeyError".into())),
                Mood::Silent | Mood::Mute => std::future::pending().await,
                Mood::Gone => return Err(StorageError::Unavailable("custom encryption: it is being replaced".into())),
            }
        }
        Ok(match piece.data {
            Data::Blob(bytes) => Data::Blob(bytes.iter().map(|byte| byte ^ 0x5A).collect::<Vec<_>>().into()),
            Data::Json(members) => {
                let opened = members.into_iter().map(|(key, value)| (key, back(&value).unwrap_or(value)));
                Data::Json(opened.collect::<RawObject>())
            }
        })
    }

    async fn context(&self, _: Option<&User>, said: Object) -> Result<Object> {
        Ok(said)
    }
}
