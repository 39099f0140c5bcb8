//! Custom auth: the user's `@auth.authenticate` and `@auth.on` handlers decide, in a process of their own.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use threadyard_core::{
    access::{AccessError, Action, Credentials, Gate, User, Verdict},
    ambient::Ambient,
    json::{Object, RawObject, raw},
    metadata_filter::MetadataFilter,
    runtime::{GraphError, RuntimeError},
    time::Timestamp,
};

use crate::{auxiliary::Auxiliary, load::Ready};

/// A handler that takes longer will not answer any more.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// What `auth` of langgraph.json says about a custom auth object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// `./file.py:name` or `package.module:name`.
    pub path: String,
    /// Whether what no handler looks at is refused.
    pub deny: bool,
    /// How long authentication is remembered, if it is.
    pub cache: Option<AuthCache>,
}

/// How authentication is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthCache {
    /// The headers that tell callers apart, in small letters.
    pub keys: Vec<String>,
    /// For how long.
    pub ttl: Duration,
    /// Of how many callers at most.
    pub max_size: usize,
}

/// Asks the user's handlers.
pub struct CustomAuth {
    process: Arc<Auxiliary>,
    remembered: Option<Remembered>,
}

/// Why a worker with an auth object can't be used.
pub(crate) fn objection(ready: &Ready) -> Option<String> {
    let Some(loaded) = &ready.auth else { return Some("the worker does not know custom auth".into()) };
    let GraphError { error, message, .. } = loaded.error.as_ref()?;
    Some(format!("auth.path: {error}: {message}"))
}

#[derive(Serialize)]
struct AuthenticateArgs<'a> {
    method: &'a str,
    path: &'a str,
    path_params: BTreeMap<&'a str, &'a str>,
    query: &'a str,
    headers: Vec<(&'a str, String)>,
    body: Option<String>,
    /// The address and the port.
    client: Option<(String, u16)>,
    scheme: &'static str,
}

#[derive(Serialize)]
struct AuthorizeArgs<'a> {
    user: &'a User,
    resource: &'a str,
    action: &'a str,
    value: RawObject,
}

#[derive(Deserialize)]
struct Refused {
    status: u16,
    detail: String,
    headers: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Refusal {
    refused: Option<Refused>,
}

#[derive(Deserialize)]
struct Authenticated {
    user: User,
}

#[derive(Deserialize)]
struct Authorized {
    edits: RawObject,
    filter: Option<Object>,
}

impl CustomAuth {
    pub(crate) fn new(process: Arc<Auxiliary>, cache: Option<AuthCache>, ambient: Ambient) -> Self {
        Self { process, remembered: cache.map(|rules| Remembered { rules, ambient, users: RwLock::default() }) }
    }

    async fn ask<T: DeserializeOwned>(&self, op: &str, args: &impl Serialize) -> Result<T, AccessError> {
        let worker = self.process.worker().map_err(|error| AccessError::Unavailable(error.to_string()))?;
        let args = raw(args);
        let asked = tokio::time::timeout(ANSWERS_WITHIN, worker.ask(op, None, &args)).await;
        let answer = match asked {
            Err(_) => return Err(AccessError::Unavailable(format!("{op} did not answer in time"))),
            Ok(Err(RuntimeError::Raised(error) | RuntimeError::Refused { error, .. })) => {
                let GraphError { error, traceback, .. } = error;
                return Err(AccessError::Failed(format!("{error}\n{}", traceback.unwrap_or_default())));
            }
            Ok(Err(error)) => return Err(AccessError::Unavailable(error.to_string())),
            Ok(Ok(answer)) => answer,
        };
        // What was answered may be secret.
        let nonsense = |_| AccessError::Failed(format!("the answer of {op} makes no sense"));
        let Refusal { refused } = serde_json::from_str(answer.get()).map_err(nonsense)?;
        match refused {
            Some(Refused { status, detail, headers }) => Err(AccessError::Refused { status, detail, headers }),
            None => serde_json::from_str(answer.get()).map_err(nonsense),
        }
    }
}

#[async_trait]
impl Gate for CustomAuth {
    fn reads_bodies(&self) -> bool {
        self.process.worker().is_ok_and(|worker| worker.ready.auth.as_ref().is_some_and(|auth| auth.body))
    }

    /// What the project's code looks at, only that knows; `Authorization` is what nearly all do.
    fn challenges(&self) -> &'static [&'static str] {
        &["Bearer realm=\"threadyard\""]
    }

    async fn authenticate(&self, credentials: Credentials) -> Result<User, AccessError> {
        let worker = self.process.worker().map_err(|error| AccessError::Unavailable(error.to_string()))?;
        // Other code may answer otherwise.
        let revision = &worker.ready.revision;
        let key = self.remembered.as_ref().and_then(|remembered| remembered.key(&credentials, revision));
        if let (Some(remembered), Some(key)) = (&self.remembered, &key)
            && let Some(user) = remembered.user(key)
        {
            return Ok(user);
        }
        let args = AuthenticateArgs {
            method: &credentials.method,
            path: &credentials.path,
            path_params: credentials.path_params.iter().map(|(name, value)| (&**name, &**value)).collect(),
            query: &credentials.query,
            headers: credentials.headers.iter().map(|(name, value)| (&**name, BASE64_STANDARD.encode(value))).collect(),
            body: credentials.body.as_ref().map(|body| BASE64_STANDARD.encode(body)),
            client: credentials.client.map(|client| (client.ip().to_canonical().to_string(), client.port())),
            scheme: if credentials.secure { "https" } else { "http" },
        };
        let Authenticated { user } = self.ask("authenticate", &args).await?;
        if let (Some(remembered), Some(key)) = (&self.remembered, key) {
            remembered.keep(key, &user);
        }
        Ok(user)
    }

    async fn authorize(&self, user: &User, action: Action, value: RawObject) -> Result<Verdict, AccessError> {
        let (resource, action) = action.names();
        let Authorized { edits, filter } =
            self.ask("authorize", &AuthorizeArgs { user, resource, action, value }).await?;
        let filter = filter.map_or_else(|| Ok(MetadataFilter::default()), |written| MetadataFilter::read(&written));
        let filter = filter.map_err(|error| AccessError::Failed(error.to_string()))?;
        Ok(Verdict { edits, filter })
    }
}

/// Who sent which headers. The headers themselves are not kept, since they are secret.
struct Remembered {
    rules: AuthCache,
    ambient: Ambient,
    users: RwLock<BTreeMap<Key, (Timestamp, User)>>,
}

type Key = [u8; 32];

impl Remembered {
    /// What tells the caller from others; nothing when none of the headers is there.
    fn key(&self, credentials: &Credentials, revision: &str) -> Option<Key> {
        let mut digest = Sha256::new_with_prefix(revision);
        let mut known = false;
        for name in &self.rules.keys {
            // Which of several values counts is for the handler to say.
            for value in credentials.header(name) {
                known = true;
                digest.update((value.len() as u64).to_le_bytes());
                digest.update(value);
            }
            digest.update(u64::MAX.to_le_bytes());
        }
        known.then(|| digest.finalize().into())
    }

    fn user(&self, key: &Key) -> Option<User> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let (until, user) = users.get(key)?;
        (*until > self.ambient.now()).then(|| user.clone())
    }

    fn keep(&self, key: Key, user: &User) {
        let now = self.ambient.now();
        let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= self.rules.max_size {
            users.retain(|_, (until, _)| *until > now);
        }
        if users.len() >= self.rules.max_size {
            let oldest = users.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| *key);
            oldest.map(|oldest| users.remove(&oldest));
        }
        users.insert(key, (now + self.rules.ttl, user.clone()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use threadyard_core::testkit::ambient;

    use super::*;

    fn remembering(ambient: Ambient, max_size: usize) -> Remembered {
        let keys = vec!["authorization".into(), "x-tenant".into()];
        let rules = AuthCache { keys, ttl: Duration::from_mins(1), max_size };
        Remembered { rules, ambient, users: RwLock::default() }
    }

    fn key(headers: &[(&str, &str)]) -> Option<Key> {
        key_for(headers, "1")
    }

    fn key_for(headers: &[(&str, &str)], revision: &str) -> Option<Key> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        let credentials = Credentials { headers, ..Credentials::default() };
        remembering(Ambient::system(), 10).key(&credentials, revision)
    }

    #[test]
    fn callers_are_remembered_for_their_time_and_no_more_than_may_be() {
        let (ambient, clock) = ambient();
        let remembered = remembering(ambient, 2);
        let known = || [1, 2, 3].map(|n| remembered.user(&[n; 32]).map(|user| user.identity().to_owned()));
        for n in 1..=3 {
            let user = serde_json::from_value(json!({ "identity": n.to_string() })).unwrap();
            remembered.keep([n; 32], &user);
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!(known(), [None, Some("2".into()), Some("3".into())], "the one that has the least time left goes");
        clock.advance(Duration::from_secs(58));
        assert_eq!(known(), [None, None, Some("3".into())]);
        clock.advance(Duration::from_secs(1));
        assert_eq!(known(), [None, None, None]);
    }

    #[test]
    fn other_code_knows_nobody_yet() {
        let eve = [("authorization", "eve")];
        assert_ne!(key_for(&eve, "1"), key_for(&eve, "2"));
    }

    #[test]
    fn callers_are_told_apart_by_all_that_their_headers_say() {
        let eve = key(&[("authorization", "eve")]);
        assert!(eve.is_some());
        assert_eq!(eve, key(&[("accept", "*/*"), ("authorization", "eve")]));
        let others = [
            key(&[("authorization", "eve"), ("authorization", "zed")]),
            key(&[("authorization", "zed"), ("authorization", "eve")]),
            key(&[("authorization", ""), ("authorization", "eve")]),
            key(&[("authorization", "eve"), ("x-tenant", "")]),
            key(&[("x-tenant", "eve")]),
        ];
        for (place, other) in others.iter().enumerate() {
            assert!(other.is_some() && *other != eve && !others[..place].contains(other));
        }
        assert_eq!(key(&[("accept", "*/*")]), None);
    }
}
