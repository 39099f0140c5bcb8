//! What `langgraph.json` says of authentication: `auth`.

use std::time::Duration;

use serde::Deserialize;
use threadyard_core::{json::Value, tokens::TokenRules};

use super::{
    document::{self, Wrong},
    http::is_token,
    tokens,
};
use crate::auth::{AuthCache, AuthConfig};

/// How callers are known, and what they may do.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthOptions {
    /// Who decides.
    pub decider: AuthDecider,
    /// What the OpenAPI document says of it.
    pub openapi: Option<Value>,
}

/// Who knows callers, and decides what they may do.
#[derive(Clone, Debug, PartialEq)]
pub enum AuthDecider {
    /// An auth object of the project.
    Custom(AuthConfig),
    /// The server itself.
    Builtin {
        /// Whether API keys are believed.
        keys: bool,
        /// Which tokens are believed, if any are.
        tokens: Option<TokenRules>,
    },
}

impl AuthOptions {
    /// Where the project's own auth object is, if it has one.
    pub fn path(&self) -> Option<&String> {
        match &self.decider {
            AuthDecider::Custom(custom) => Some(&custom.path),
            AuthDecider::Builtin { .. } => None,
        }
    }
}

#[derive(Deserialize)]
struct Section {
    path: Option<String>,
    #[serde(default)]
    keys: bool,
    jwt: Option<Value>,
    /// The header of Studio never opens anything here, whatever this says.
    #[serde(default, rename = "disable_studio_auth")]
    _disable_studio_auth: bool,
    #[serde(default)]
    allow_langsmith_api_keys: bool,
    openapi: Option<Value>,
    cache: Option<Cache>,
    default: Option<Default>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Default {
    Allow,
    Deny,
}

#[derive(Deserialize)]
struct Cache {
    #[serde(rename = "cache_keys")]
    keys: Vec<String>,
    ttl_seconds: Option<f64>,
    max_size: Option<usize>,
}

/// What is kept of whom, unless the project says otherwise.
const USUAL_TTL: f64 = 60.0;
const USUAL_SIZE: usize = 1_000;
/// What `openapi` may have.
const DOCUMENTED: [&str; 3] = ["securitySchemes", "security", "paths"];

/// How callers are known; `None` when nobody asks. What a mistyped key was to close would stay open.
pub(super) fn options(section: Option<&Value>) -> Result<Option<AuthOptions>, Wrong> {
    let Some(section) = section else { return Ok(None) };
    let section: Section = document::read_all("auth", section)?;
    if section.allow_langsmith_api_keys {
        return Err(Wrong::unsupported("auth.allow_langsmith_api_keys"));
    }
    if let Some(openapi) = &section.openapi {
        let keys = openapi.as_object().ok_or_else(|| Wrong::new("auth.openapi", "must be an object"))?;
        if let Some(key) = keys.keys().find(|key| !DOCUMENTED.contains(&key.as_str())) {
            return Err(Wrong::new(format!("auth.openapi.{key}"), "is none of securitySchemes, security and paths"));
        }
    }
    let openapi = section.openapi.clone();
    let decider = if section.keys || section.jwt.is_some() { builtin(&section)? } else { custom(section)? };
    Ok(Some(AuthOptions { decider, openapi }))
}

fn custom(section: Section) -> Result<AuthDecider, Wrong> {
    let example = "must be an auth object such as \"./auth.py:auth\"";
    let path = section.path.ok_or_else(|| {
        Wrong::new("auth.path", format!("{example}, unless `auth.keys` or `auth.jwt` say how callers are known"))
    })?;
    if !matches!(path.rsplit_once(':'), Some((source, name)) if !source.is_empty() && !name.is_empty()) {
        return Err(Wrong::new("auth.path", format!("`{path}` {example}")));
    }
    let cache = section.cache.as_ref().map(remembered).transpose()?;
    Ok(AuthDecider::Custom(AuthConfig { path, deny: section.default == Some(Default::Deny), cache }))
}

/// The server decides by itself: nobody else may be meant to.
fn builtin(section: &Section) -> Result<AuthDecider, Wrong> {
    let here = if section.keys { "auth.keys" } else { "auth.jwt" };
    let given = [
        ("auth.path", section.path.is_some()),
        ("auth.cache", section.cache.is_some()),
        ("auth.default", section.default.is_some()),
    ];
    if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
        return Err(Wrong::new(key, format!("can't stand beside `{here}`: one of them decides about access")));
    }
    let tokens = section.jwt.as_ref().map(tokens::rules).transpose()?;
    Ok(AuthDecider::Builtin { keys: section.keys, tokens })
}

fn remembered(cache: &Cache) -> Result<AuthCache, Wrong> {
    let seconds = cache.ttl_seconds.unwrap_or(USUAL_TTL);
    let ttl = Duration::try_from_secs_f64(seconds)
        .map_err(|_| Wrong::new("auth.cache.ttl_seconds", "must be a number of seconds"))?;
    if cache.keys.is_empty() {
        return Err(Wrong::new("auth.cache.cache_keys", "must name the headers that tell callers apart"));
    }
    // By a name that no request has, nobody would ever be remembered.
    if let Some((n, name)) = cache.keys.iter().enumerate().find(|(_, name)| !is_token(name)) {
        return Err(Wrong::new(format!("auth.cache.cache_keys[{n}]"), format!("`{name}` is no name of a header")));
    }
    let max_size = cache.max_size.unwrap_or(USUAL_SIZE);
    if max_size == 0 {
        return Err(Wrong::new("auth.cache.max_size", "must be above zero"));
    }
    let keys = cache.keys.iter().map(|name| name.to_ascii_lowercase()).collect();
    Ok(AuthCache { keys, ttl, max_size })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_section_is_read_with_its_defaults() {
        let section = json!({
            "path": "./a.py:auth", "disable_studio_auth": true, "default": "deny",
            "cache": {"cache_keys": ["Authorization"], "ttl_seconds": 5},
        });
        let read = options(Some(&section)).unwrap().unwrap();
        let cache = AuthCache { keys: vec!["authorization".into()], ttl: Duration::from_secs(5), max_size: 1_000 };
        let custom = AuthConfig { path: "./a.py:auth".into(), deny: true, cache: Some(cache) };
        assert_eq!(read.decider, AuthDecider::Custom(custom));
        assert!(options(None).unwrap().is_none());
    }

    #[test]
    fn keys_and_tokens_need_no_code() {
        let decider = |section| options(Some(&section)).unwrap().unwrap().decider;
        assert_eq!(decider(json!({"keys": true})), AuthDecider::Builtin { keys: true, tokens: None });
        let both = decider(json!({"keys": true, "jwt": {"issuer": "https://id.example", "audience": "a"}}));
        assert!(matches!(both, AuthDecider::Builtin { keys: true, tokens: Some(_) }));
        let custom = decider(json!({"keys": false, "path": "./a.py:auth"}));
        assert!(matches!(custom, AuthDecider::Custom(_)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (section, key) in [
            (json!({}), "auth.path"),
            (json!({"keys": false}), "auth.path"),
            (json!({"keys": "yes"}), "auth.keys"),
            (json!({"keys": true, "path": "./a.py:auth"}), "auth.path"),
            (json!({"keys": true, "cache": {"cache_keys": ["a"]}}), "auth.cache"),
            (json!({"jwt": {"issuer": "https://id.example", "audience": "a"}, "default": "deny"}), "auth.default"),
            (json!({"keys": true, "jwt": {"audience": "a"}}), "auth.jwt.issuer"),
            (json!({"path": "./a.py"}), "auth.path"),
            (json!({"path": "./a.py:auth", "defualt": "deny"}), "auth.defualt"),
            (json!({"path": "./a.py:auth", "cache": {"cache_keys": ["a"], "ttl": 5}}), "auth.cache.ttl"),
            (json!({"path": "./a.py:auth", "allow_langsmith_api_keys": true}), "auth.allow_langsmith_api_keys"),
            (json!({"path": "./a.py:auth", "default": "maybe"}), "auth.default"),
            (json!({"path": "./a.py:auth", "openapi": {"info": {}}}), "auth.openapi.info"),
            (json!({"path": "./a.py:auth", "cache": {"cache_keys": []}}), "auth.cache.cache_keys"),
            (json!({"path": "./a.py:auth", "cache": {"cache_keys": ["a", "x y"]}}), "auth.cache.cache_keys[1]"),
            (json!({"path": "./a.py:auth", "cache": {"cache_keys": ["", "a"]}}), "auth.cache.cache_keys[0]"),
            (json!({"path": "./a.py:auth", "cache": {"cache_keys": ["a: b"]}}), "auth.cache.cache_keys[0]"),
            (json!({"path": "./a.py:auth", "cache": {"cache_keys": ["a"], "max_size": 0}}), "auth.cache.max_size"),
        ] {
            assert_eq!(options(Some(&section)).unwrap_err().key, key, "{section}");
        }
    }
}
