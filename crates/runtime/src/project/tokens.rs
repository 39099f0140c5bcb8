//! What `langgraph.json` says of an identity provider: `auth.jwt`. A mistyped key would open what should be closed, so that
//! unknown ones are wrong.

use std::time::Duration;

use serde::Deserialize;
use threadyard_core::{
    json::Value,
    scopes::Scopes,
    tokens::{TokenAlgorithm, TokenRules, is_private_way},
};
use url::Url;

use super::document::{self, Wrong};

#[derive(Deserialize)]
struct Section {
    issuer: Option<String>,
    audience: Option<Audience>,
    jwks_url: Option<String>,
    algorithms: Option<Vec<TokenAlgorithm>>,
    leeway_seconds: Option<u64>,
    scopes_claim: Option<String>,
    scopes: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// What providers use, unless the project says otherwise.
const USUAL_ALGORITHMS: [TokenAlgorithm; 2] = [TokenAlgorithm::RS256, TokenAlgorithm::ES256];
const USUAL_LEEWAY: u64 = 30;
/// Clocks that differ more are wrong.
const LONGEST_LEEWAY: u64 = 600;
/// What a token permits where no claim says so.
const USUAL_SCOPE: &str = "user";

/// Which tokens are believed.
pub(super) fn rules(section: &Value) -> Result<TokenRules, Wrong> {
    if !section.is_object() {
        return Err(Wrong::new(
            "auth.jwt",
            "must be an object such as {\"issuer\": \"https://…\", \"audience\": \"…\"}",
        ));
    }
    let section: Section = document::read_all("auth.jwt", section)?;
    let place = |key: &str, text: &str| {
        let url = text.parse::<Url>().ok().filter(is_private_way);
        url.ok_or_else(|| Wrong::new(format!("auth.jwt.{key}"), format!("`{text}` must be a URL with https")))
    };
    let issuer =
        section.issuer.ok_or_else(|| Wrong::new("auth.jwt.issuer", "must be what `iss` of the tokens says"))?;
    let jwks_url = section.jwks_url.as_deref().map(|text| place("jwks_url", text)).transpose()?;
    if jwks_url.is_none() {
        // The issuer's configuration is looked for below it.
        place("issuer", &issuer)?;
    }
    Ok(TokenRules {
        issuer,
        audience: audience(section.audience)?,
        jwks_url,
        algorithms: algorithms(section.algorithms)?,
        leeway: leeway(section.leeway_seconds.unwrap_or(USUAL_LEEWAY))?,
        scopes: scopes(section.scopes, section.scopes_claim.as_deref())?,
        scopes_claim: section.scopes_claim,
    })
}

fn audience(given: Option<Audience>) -> Result<Vec<String>, Wrong> {
    let audience = match given {
        Some(Audience::One(name)) => vec![name],
        Some(Audience::Several(names)) => names,
        None => Vec::new(),
    };
    if audience.is_empty() || audience.iter().any(String::is_empty) {
        // Without it, every token of the provider would be believed, whatever service it was made for.
        return Err(Wrong::new("auth.jwt.audience", "must name whom the tokens are meant for, as their `aud` does"));
    }
    Ok(audience)
}

fn algorithms(given: Option<Vec<TokenAlgorithm>>) -> Result<Vec<TokenAlgorithm>, Wrong> {
    match given {
        Some(algorithms) if algorithms.is_empty() => {
            Err(Wrong::new("auth.jwt.algorithms", "must name at least one, such as \"RS256\""))
        }
        Some(algorithms) => Ok(algorithms),
        None => Ok(USUAL_ALGORITHMS.to_vec()),
    }
}

fn leeway(seconds: u64) -> Result<Duration, Wrong> {
    if seconds > LONGEST_LEEWAY {
        return Err(Wrong::new("auth.jwt.leeway_seconds", format!("must be at most {LONGEST_LEEWAY}")));
    }
    Ok(Duration::from_secs(seconds))
}

fn scopes(given: Option<Vec<String>>, claim: Option<&str>) -> Result<Vec<String>, Wrong> {
    match (given, claim) {
        (Some(_), Some(_)) => Err(Wrong::new("auth.jwt.scopes", "can't stand beside `auth.jwt.scopes_claim`")),
        (Some(scopes), None) => {
            match scopes.iter().enumerate().find_map(|(n, word)| Some((n, Scopes::read(word).err()?))) {
                Some((n, error)) => Err(Wrong::new(format!("auth.jwt.scopes[{n}]"), error)),
                None => Ok(scopes),
            }
        }
        (None, Some("")) => Err(Wrong::new("auth.jwt.scopes_claim", "must name a claim")),
        (None, Some(_)) => Ok(Vec::new()),
        (None, None) => Ok(vec![USUAL_SCOPE.into()]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_issuer_and_an_audience_are_enough() {
        let read = rules(&json!({"issuer": "https://id.example/", "audience": "threadyard"})).unwrap();
        let expected = TokenRules {
            issuer: "https://id.example/".into(),
            audience: vec!["threadyard".into()],
            jwks_url: None,
            algorithms: vec![TokenAlgorithm::RS256, TokenAlgorithm::ES256],
            leeway: Duration::from_secs(30),
            scopes_claim: None,
            scopes: vec!["user".into()],
        };
        assert_eq!(read, expected);
        let read = rules(&json!({
            "issuer": "me", "audience": ["a", "b"], "jwks_url": "http://127.0.0.1:1/k", "algorithms": ["EdDSA"],
            "scopes_claim": "scope", "leeway_seconds": 0,
        }));
        let read = read.unwrap();
        assert_eq!((read.scopes, read.audience.len(), read.algorithms), (Vec::new(), 2, vec![TokenAlgorithm::EdDSA]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let whole = json!({"issuer": "https://id.example", "audience": "a"});
        for (key, value, named) in [
            ("issuer", json!(null), "auth.jwt.issuer"),
            ("issuer", json!("http://id.example"), "auth.jwt.issuer"),
            ("issuer", json!("id.example"), "auth.jwt.issuer"),
            ("audience", json!(null), "auth.jwt.audience"),
            ("audience", json!([]), "auth.jwt.audience"),
            ("audience", json!(""), "auth.jwt.audience"),
            ("jwks_url", json!("http://id.example/keys"), "auth.jwt.jwks_url"),
            ("algorithms", json!([]), "auth.jwt.algorithms"),
            ("algorithms", json!(["none"]), "auth.jwt.algorithms[0]"),
            ("algorithms", json!(["RS256", "HS256"]), "auth.jwt.algorithms[1]"),
            ("leeway_seconds", json!(601), "auth.jwt.leeway_seconds"),
            ("leeway_seconds", json!(-1), "auth.jwt.leeway_seconds"),
            ("scopes", json!(["user", "openid"]), "auth.jwt.scopes[1]"),
            ("scopes_claim", json!(""), "auth.jwt.scopes_claim"),
            ("isuer", json!("x"), "auth.jwt.isuer"),
        ] {
            let mut section = whole.clone();
            section[key] = value;
            assert_eq!(rules(&section).unwrap_err().key, named, "{section}");
        }
        assert_eq!(rules(&json!("https://id.example")).unwrap_err().key, "auth.jwt");
    }
}
