//! Access without code of the project: API keys and tokens say who calls and what they may do, and everybody has what is
//! theirs.

use std::sync::Arc;

use async_trait::async_trait;
use threadyard_core::{
    access::{AccessError, Action, Credentials, Gate, User, Verdict},
    ambient::Ambient,
    json::RawObject,
    ownership,
    scopes::Scopes,
    storage::Storage,
    tokens::TokenRules,
};

use crate::{
    Result,
    api_keys::{KnownKeys, is_api_key},
    tokens::Tokens,
};

/// What callers may prove themselves with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuiltinAuthRules {
    /// Whether API keys are believed.
    pub keys: bool,
    /// Which tokens are believed, if any are.
    pub tokens: Option<TokenRules>,
}

/// Keys and tokens alike are taken as that.
const BEARER: &str = "Bearer realm=\"threadyard\"";
/// The scheme has no other name that is agreed upon.
const API_KEY: &str = "ApiKey realm=\"threadyard\", header=\"x-api-key\"";

/// Decides by API keys and tokens.
pub struct BuiltinAuth {
    keys: Option<KnownKeys>,
    tokens: Option<Tokens>,
}

impl BuiltinAuth {
    /// Keys are those in storage; tokens are looked into when they come.
    pub fn new(rules: BuiltinAuthRules, storage: Arc<dyn Storage>, ambient: &Ambient) -> Result<Self> {
        let keys = rules.keys.then(|| KnownKeys::new(storage, ambient.clone()));
        let tokens = rules.tokens.map(|rules| Tokens::new(rules, ambient.clone())).transpose()?;
        Ok(Self { keys, tokens })
    }

    /// What a caller could have sent.
    fn expected(&self) -> &'static str {
        match (&self.keys, &self.tokens) {
            (Some(_), None) => "send an API key as `x-api-key`",
            (None, _) => "send a token as `Authorization: Bearer`",
            (Some(_), Some(_)) => "send an API key as `x-api-key`, or a token as `Authorization: Bearer`",
        }
    }
}

#[async_trait]
impl Gate for BuiltinAuth {
    fn reads_bodies(&self) -> bool {
        false
    }

    fn challenges(&self) -> &'static [&'static str] {
        if self.keys.is_some() { &[BEARER, API_KEY] } else { &[BEARER] }
    }

    async fn authenticate(&self, credentials: Credentials) -> Result<User, AccessError> {
        let header = |name| credentials.header(name).next().and_then(|value| std::str::from_utf8(value).ok());
        let bearer = header("authorization").and_then(bearer);
        // Clients send keys of other services in `x-api-key` by themselves; those are nobody's business.
        let key = header("x-api-key").into_iter().chain(bearer).find(|text| is_api_key(text));
        match (&self.keys, &self.tokens, key, bearer) {
            (Some(keys), _, Some(key), _) => keys.holder(key).await,
            (_, Some(tokens), _, Some(token)) => tokens.bearer(token).await,
            _ => Err(AccessError::unauthenticated(&format!("Unauthorized: {}", self.expected()))),
        }
    }

    async fn authorize(&self, user: &User, action: Action, value: RawObject) -> Result<Verdict, AccessError> {
        let scopes = Scopes::of(user.permissions().iter().filter_map(|word| word.as_str()));
        if !scopes.permit(action) {
            let (resource, action) = action.names();
            return Err(AccessError::forbidden(&format!("Forbidden: this needs the scope `{resource}:{action}`")));
        }
        Ok(if scopes.reach_everybody() {
            ownership::given(user.identity(), action, &value)
        } else {
            ownership::own(user.identity(), action, &value)
        })
    }
}

/// The token of a header such as `Bearer abc`. The scheme may be written in any case.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
