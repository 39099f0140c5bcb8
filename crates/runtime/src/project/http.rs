//! What `langgraph.json` says of HTTP: `http`.

use std::{fmt, time::Duration};

use globset::{Glob, GlobSet, GlobSetBuilder};
use regex::Regex;
use serde::Deserialize;
use threadyard_core::json::Value;

use super::document::{Wrong, read};

/// How the server answers over HTTP.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// The project's own HTTP application, as `./file.py:name` or `package.module:name`.
    pub app: Option<String>,
    /// Whether who calls routes of the application has to be known.
    pub custom_route_auth: bool,
    /// Whether callers are told apart before the application's middleware hears of them.
    pub auth_first: bool,
    /// What all paths but that of `/ok` begin with, such as `/api`; nothing unless said.
    pub mount_prefix: String,
    /// Which pages of other sites may use the API, if the project says so.
    pub cors: Option<CorsRules>,
    /// Which headers of a request its runs see in `config.configurable`.
    pub configurable_headers: HeaderPatterns,
    /// Which headers of a request the log shows.
    pub logging_headers: HeaderPatterns,
    /// What is not served.
    pub disabled: Disabled,
}

/// Groups of routes that are not served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
pub struct Disabled {
    /// `/assistants`.
    pub assistants: bool,
    /// `/threads`, but for their runs.
    pub threads: bool,
    /// Runs, on threads and without, and crons.
    pub runs: bool,
    /// `/store`.
    pub store: bool,
    /// `/mcp`.
    pub mcp: bool,
    /// `/a2a` and the agent card.
    pub a2a: bool,
    /// `/`, `/info`, `/metrics`, `/docs` and `/openapi.json`.
    pub meta: bool,
    /// The sending of webhooks.
    pub webhooks: bool,
    /// `/ui`, and the bundling of what it serves.
    pub ui: bool,
}

/// `http`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Http {
    app: Option<String>,
    enable_custom_route_auth: Option<bool>,
    middleware_order: Option<MiddlewareOrder>,
    cors: Option<Cors>,
    mount_prefix: Option<String>,
    configurable_headers: Option<HeaderPatterns>,
    logging_headers: Option<HeaderPatterns>,
    disable_assistants: Option<bool>,
    disable_threads: Option<bool>,
    disable_runs: Option<bool>,
    disable_store: Option<bool>,
    disable_mcp: Option<bool>,
    disable_a2a: Option<bool>,
    disable_meta: Option<bool>,
    disable_webhooks: Option<bool>,
    disable_ui: Option<bool>,
}

/// `http.middleware_order`.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum MiddlewareOrder {
    #[default]
    MiddlewareFirst,
    AuthFirst,
}

/// The options, and the keys that nothing reads.
pub(crate) fn options(http: Option<&Value>, unknown: &mut Vec<String>) -> Result<HttpOptions, Wrong> {
    let Some(http) = http else { return Ok(HttpOptions::default()) };
    let http: Http = read("http", http, unknown)?;
    let said = |disabled: Option<bool>| disabled.unwrap_or_default();
    if http.app.as_ref().is_some_and(|app| !app.contains(':')) {
        let why = "must name a file or module and an application in it, such as \"./webapp.py:app\"";
        return Err(Wrong::new("http.app", why));
    }
    Ok(HttpOptions {
        app: http.app,
        custom_route_auth: http.enable_custom_route_auth.unwrap_or_default(),
        auth_first: http.middleware_order.unwrap_or_default() == MiddlewareOrder::AuthFirst,
        mount_prefix: mount_prefix(http.mount_prefix.as_deref().unwrap_or_default())
            .map_err(|why| Wrong::new("http.mount_prefix", why))?,
        cors: http.cors.map(Cors::rules).transpose()?,
        configurable_headers: http.configurable_headers.unwrap_or_default(),
        logging_headers: http.logging_headers.unwrap_or_default(),
        disabled: Disabled {
            assistants: said(http.disable_assistants),
            threads: said(http.disable_threads),
            runs: said(http.disable_runs),
            store: said(http.disable_store),
            mcp: said(http.disable_mcp),
            a2a: said(http.disable_a2a),
            meta: said(http.disable_meta),
            webhooks: said(http.disable_webhooks),
            ui: said(http.disable_ui),
        },
    })
}

/// A prefix of paths, as it is put before them.
pub fn mount_prefix(said: &str) -> Result<String, String> {
    let prefix = said.trim_end_matches('/');
    let is_plain = |part: &str| {
        !matches!(part, "" | "." | "..") && part.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._~".contains(&it))
    };
    match prefix.strip_prefix('/') {
        None if prefix.is_empty() => Ok(String::new()),
        Some(parts) if parts.split('/').all(is_plain) => Ok(prefix.to_owned()),
        _ => Err(format!("`{said}` must begin with `/` and consist of plain names, such as /my/api")),
    }
}

/// Whether headers, and methods, may have this name.
pub(crate) fn is_token(name: &str) -> bool {
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&letter);
    !name.is_empty() && name.bytes().all(is_letter)
}

/// `http.cors`, with the defaults of Starlette's middleware.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Cors {
    allow_origins: Option<Vec<String>>,
    allow_methods: Option<Vec<String>>,
    allow_headers: Option<Vec<String>>,
    allow_credentials: Option<bool>,
    allow_origin_regex: Option<String>,
    expose_headers: Option<Vec<String>>,
    max_age: Option<u64>,
}

/// Which pages of other sites may use the API, and how.
#[derive(Clone, Debug)]
pub struct CorsRules {
    /// Their origins; `*` stands for all.
    pub allow_origins: Vec<String>,
    /// More origins, by a pattern that has to fit all of them.
    pub allow_origin_regex: Option<Regex>,
    /// What they may do; `*` stands for everything.
    pub allow_methods: Vec<String>,
    /// Which headers they may send; `*` stands for all.
    pub allow_headers: Vec<String>,
    /// Whether they may send cookies.
    pub allow_credentials: bool,
    /// Which headers of answers they may see.
    pub expose_headers: Vec<String>,
    /// How long a browser may rely on it.
    pub max_age: Duration,
}

impl Cors {
    fn rules(self) -> Result<CorsRules, Wrong> {
        for (key, texts) in [
            ("allow_methods", &self.allow_methods),
            ("allow_headers", &self.allow_headers),
            ("expose_headers", &self.expose_headers),
        ] {
            if let Some(index) = texts.iter().flatten().position(|text| !is_token(text)) {
                return Err(Wrong::new(format!("http.cors.{key}[{index}]"), "must be a single name"));
            }
        }
        let regex = self.allow_origin_regex.map(|text| {
            let whole = Regex::new(&format!("^(?:{text})$"));
            whole.map_err(|error| Wrong::new("http.cors.allow_origin_regex", error))
        });
        Ok(CorsRules {
            allow_origins: self.allow_origins.unwrap_or_default(),
            allow_origin_regex: regex.transpose()?,
            allow_methods: self.allow_methods.unwrap_or_else(|| vec!["GET".into()]),
            allow_headers: self.allow_headers.unwrap_or_default(),
            allow_credentials: self.allow_credentials.unwrap_or_default(),
            expose_headers: self.expose_headers.unwrap_or_default(),
            max_age: Duration::from_secs(self.max_age.unwrap_or(600)),
        })
    }
}

/// `http.configurable_headers`, `http.logging_headers`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Patterns {
    #[serde(alias = "include")]
    includes: Option<Vec<String>>,
    #[serde(alias = "exclude")]
    excludes: Option<Vec<String>>,
}

/// What callers prove themselves with: no pattern means these, only their name does.
const PROOFS: [&str; 6] =
    ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-service-key", "x-tenant-id"];

/// Names of headers, by patterns such as `x-my-*`; what is excluded is not included.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Patterns")]
pub struct HeaderPatterns {
    includes: GlobSet,
    excludes: GlobSet,
    proofs: Vec<&'static str>,
    written: String,
}

impl fmt::Display for HeaderPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl HeaderPatterns {
    /// Whether nothing is meant.
    pub fn is_empty(&self) -> bool {
        self.includes.is_empty()
    }

    /// Whether a header is meant, by its name in lower case.
    pub fn include(&self, name: &str) -> bool {
        let included = if PROOFS.contains(&name) { self.proofs.contains(&name) } else { self.includes.is_match(name) };
        included && !self.excludes.is_match(name)
    }
}

impl TryFrom<Patterns> for HeaderPatterns {
    type Error = globset::Error;

    fn try_from(Patterns { includes, excludes }: Patterns) -> Result<Self, globset::Error> {
        let listed = |patterns: &Option<Vec<String>>| patterns.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
        let written = match (listed(&includes), listed(&excludes)) {
            (includes, excludes) if excludes.is_empty() => includes,
            (includes, excludes) => format!("{includes}, but not {excludes}"),
        };
        let is_named = |proof: &&str| includes.iter().flatten().any(|pattern| pattern.eq_ignore_ascii_case(proof));
        let proofs = PROOFS.into_iter().filter(is_named).collect();
        let set = |patterns: Option<Vec<String>>| {
            let mut set = GlobSetBuilder::new();
            for pattern in patterns.into_iter().flatten() {
                set.add(Glob::new(&pattern.to_ascii_lowercase())?);
            }
            set.build()
        };
        Ok(Self { includes: set(includes)?, excludes: set(excludes)?, proofs, written })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn headers_are_chosen_by_patterns_and_excluded_first() {
        let said = json!({"configurable_headers": {"includes": ["X-My-*", "tenant"], "excludes": ["x-my-secret"]}});
        let patterns = options(Some(&said), &mut Vec::new()).unwrap().configurable_headers;
        let chosen = ["x-my-tenant", "x-my-secret", "tenant", "tenants"].map(|name| patterns.include(name));
        assert_eq!(chosen, [true, false, true, false]);
        let said = json!({"configurable_headers": {"includes": ["*", "X-API-Key"]}});
        let patterns = options(Some(&said), &mut Vec::new()).unwrap().configurable_headers;
        let chosen = ["tenant", "x-api-key", "authorization", "cookie"].map(|name| patterns.include(name));
        assert_eq!(chosen, [true, true, false, false], "no pattern means what callers prove themselves with");
        assert!(!HeaderPatterns::default().include("x"));
    }

    #[test]
    fn a_prefix_is_a_plain_path() {
        for (said, prefix_of) in [("", ""), ("/", ""), ("/my/api/", "/my/api"), ("/v1.0", "/v1.0")] {
            assert_eq!(mount_prefix(said).as_deref(), Ok(prefix_of));
        }
        for said in ["api", "/a//b", "/{x}", "/../x", "/a?b", "/a b"] {
            assert!(mount_prefix(said).is_err(), "{said}");
        }
    }

    #[test]
    fn cors_has_the_defaults_of_starlette() {
        let said = json!({"cors": {"allow_origins": ["https://a"]}});
        let cors = options(Some(&said), &mut Vec::new()).unwrap().cors.unwrap();
        assert_eq!((cors.allow_methods, cors.max_age), (vec!["GET".to_owned()], Duration::from_mins(10)));
        assert!(cors.allow_headers.is_empty() && cors.expose_headers.is_empty() && !cors.allow_credentials);
    }

    #[test]
    fn a_pattern_of_origins_has_to_fit_all_of_one() {
        let said = json!({"cors": {"allow_origin_regex": "https://a\\.test|https://b\\.test"}});
        let pattern = options(Some(&said), &mut Vec::new()).unwrap().cors.unwrap().allow_origin_regex.unwrap();
        for (origin, fits) in [
            ("https://a.test", true),
            ("https://b.test", true),
            ("https://a.test.evil", false),
            ("https://evil/https://b.test", false),
        ] {
            assert_eq!(pattern.is_match(origin), fits, "{origin}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (said, key) in [
            (json!({"cors": {"allow_origins": "*"}}), "http.cors.allow_origins"),
            (json!({"cors": {"allow_origin_regex": "("}}), "http.cors.allow_origin_regex"),
            (json!({"cors": {"max_age": -1}}), "http.cors.max_age"),
            (json!({"cors": {"allow_methods": ["GET", "A, B"]}}), "http.cors.allow_methods[1]"),
            (json!({"cors": {"allow_headers": ["X-A", "*", "X-B:"]}}), "http.cors.allow_headers[2]"),
            (json!({"disable_runs": "yes"}), "http.disable_runs"),
            (json!({"logging_headers": {"includes": ["a", "{"]}}), "http.logging_headers"),
            (json!({"mount_prefix": "api"}), "http.mount_prefix"),
            (json!({"app": "./a.py"}), "http.app"),
            (json!({"enable_custom_route_auth": "yes"}), "http.enable_custom_route_auth"),
            (json!({"middleware_order": "last"}), "http.middleware_order"),
        ] {
            assert_eq!(options(Some(&said), &mut Vec::new()).unwrap_err().key, key, "{said}");
        }
    }
}
