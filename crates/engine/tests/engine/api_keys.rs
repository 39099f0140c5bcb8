//! API keys: who holds one, and how soon one that was taken back opens nothing any more.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use threadyard_core::{
    access::{AccessError, Action, Credentials, Gate, User},
    ambient::Ambient,
    api_keys::{ApiKey, KeyDigest},
    json::RawObject,
    storage::Storage,
    testkit::{ManualClock, ambient},
};
use threadyard_engine::{BuiltinAuth, BuiltinAuthRules, HEARD_WITHIN, NewApiKey, new_api_key};

use crate::{SOON, storage};

struct Door {
    gate: BuiltinAuth,
    storage: Arc<dyn Storage>,
    ambient: Ambient,
    clock: Arc<ManualClock>,
    _folder: TempDir,
}

impl Door {
    fn set() -> Self {
        let ((storage, folder), (ambient, clock)) = (storage(), ambient());
        let rules = BuiltinAuthRules { keys: true, tokens: None };
        let gate = BuiltinAuth::new(rules, storage.clone(), &ambient).unwrap();
        Self { gate, storage, ambient, clock, _folder: folder }
    }

    async fn key(&self, scopes: &[&str], lasts: Option<Duration>) -> NewApiKey {
        let made = new_api_key(&self.ambient);
        let now = self.ambient.now();
        let key = ApiKey {
            id: made.id.clone(),
            name: made.id.clone(),
            identity: "ann".into(),
            scopes: scopes.iter().map(|&scope| scope.into()).collect(),
            created_at: now,
            expires_at: lasts.map(|lasts| now + lasts),
            revoked_at: None,
            last_used_at: None,
        };
        assert!(self.storage.create_api_key(key, made.digest).await.unwrap());
        made
    }

    async fn knock(&self, headers: &[(&str, &str)]) -> Result<User, AccessError> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        let (method, path) = ("GET".into(), "/threads".into());
        self.gate.authenticate(Credentials { method, path, headers, ..Credentials::default() }).await
    }

    async fn refusal(&self, headers: &[(&str, &str)]) -> String {
        self.knock(headers).await.unwrap_err().to_string()
    }
}

#[tokio::test]
async fn a_key_names_its_user_in_either_header() {
    let door = Door::set();
    let key = door.key(&["threads:read"], None).await;
    let bearer = format!("bearer {}", key.text);
    for headers in [
        &[("x-api-key", key.text.as_str())][..],
        &[("authorization", bearer.as_str())],
        // What an SDK finds in the environment and sends along.
        &[("x-api-key", "lsv2_pt_0123"), ("authorization", bearer.as_str())],
    ] {
        let user = door.knock(headers).await.unwrap();
        assert_eq!((user.identity(), user.permissions()), ("ann", &[json!("threads:read")][..]));
        assert_eq!(user.fields()["api_key_id"], json!(key.id));
    }
}

#[tokio::test]
async fn what_is_no_key_opens_nothing() {
    let door = Door::set();
    let key = door.key(&["*"], None).await;
    let forged = format!("{}x", key.text);
    let other = new_api_key(&door.ambient).text;
    for (headers, why) in [
        (&[][..], "Unauthorized: send an API key as `x-api-key`"),
        (&[("x-api-key", "")], "Unauthorized: send an API key as `x-api-key`"),
        (&[("authorization", key.text.as_str())], "Unauthorized: send an API key as `x-api-key`"),
        (&[("x-api-key", key.id.as_str())], "Unauthorized: send an API key as `x-api-key`"),
        (&[("x-api-key", forged.as_str())], "Unauthorized: the API key is not known"),
        (&[("x-api-key", other.as_str())], "Unauthorized: the API key is not known"),
    ] {
        assert_eq!(door.refusal(headers).await, why);
    }
}

#[tokio::test]
async fn a_key_that_is_taken_back_or_over_opens_nothing_any_more() {
    let door = Door::set();
    let (revoked, over) = (door.key(&["*"], None).await, door.key(&["*"], Some(Duration::from_mins(1))).await);
    let revoked_header = [("x-api-key", revoked.text.as_str())];
    door.knock(&revoked_header).await.unwrap();
    door.storage.revoke_api_key(&revoked.id, door.ambient.now()).await.unwrap();
    door.clock.advance(HEARD_WITHIN);
    assert_eq!(door.refusal(&revoked_header).await, "Unauthorized: the API key was revoked");
    let over_header = [("x-api-key", over.text.as_str())];
    door.clock.advance(Duration::from_secs(57));
    door.knock(&over_header).await.unwrap();
    door.clock.advance(Duration::from_secs(1));
    assert_eq!(door.refusal(&over_header).await, "Unauthorized: the API key has expired");
}

#[tokio::test]
async fn scopes_say_what_may_be_done_and_admins_reach_everybodys() {
    let door = Door::set();
    let ask = async |scopes: &[&str], action| {
        let key = door.key(scopes, None).await;
        let user = door.knock(&[("x-api-key", key.text.as_str())]).await.unwrap();
        door.gate.authorize(&user, action, RawObject::new()).await
    };
    let refused = ask(&["threads:read"], Action::ThreadsCreate).await.unwrap_err();
    assert_eq!(refused, AccessError::forbidden("Forbidden: this needs the scope `threads:create`"));
    assert!(!ask(&["threads:read"], Action::ThreadsRead).await.unwrap().filter.is_empty());
    assert!(ask(&["admin"], Action::ThreadsRead).await.unwrap().filter.is_empty());
    assert!(ask(&[], Action::ThreadsRead).await.is_err());
}

#[tokio::test]
async fn that_a_key_is_in_use_is_noted_once_an_hour_and_by_nobody_who_guesses() {
    let door = Door::set();
    let key = door.key(&["user"], None).await;
    let used = async || door.storage.api_key(&key.id).await.unwrap().unwrap().0.last_used_at;
    let noted = async |at| {
        let noted = async {
            while used().await != Some(at) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, noted).await.expect("it is not noted");
    };
    let forged = format!("{}x", key.text);
    door.knock(&[("x-api-key", forged.as_str())]).await.unwrap_err();
    let headers = [("x-api-key", key.text.as_str())];
    let begin = door.ambient.now();
    for _ in 0..3 {
        door.knock(&headers).await.unwrap();
    }
    noted(begin).await;
    door.clock.advance(Duration::from_mins(59));
    door.knock(&headers).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(used().await, Some(begin), "an hour is not over");
    door.clock.advance(Duration::from_mins(1));
    door.knock(&headers).await.unwrap();
    noted(door.ambient.now()).await;
}

#[test]
fn what_may_be_proved_with_is_said() {
    let door = Door::set();
    assert_eq!(door.gate.challenges().len(), 2);
}

#[test]
fn digests_are_not_shown() {
    assert!(!format!("{:?}", KeyDigest([7; 32])).contains('7'));
}
