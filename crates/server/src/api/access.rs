//! Who may do what only operators should, such as reading the keys of webhooks.

use std::sync::Arc;

use axum::{
    Extension,
    extract::FromRequestParts,
    http::{
        HeaderMap, HeaderValue,
        header::{AUTHORIZATION, HOST, ORIGIN},
        request::Parts,
    },
};
use sha2::{Digest, Sha256};
use threadyard_engine::Error;
use url::{Host, Url};

use super::{cors::Cors, error::ApiError};

/// How operators are told from others.
#[derive(Clone)]
pub enum OperatorAccess {
    /// Everybody on this machine is one: the server listens here only.
    Everybody,
    /// Who sends this as a bearer token.
    Token(Arc<str>),
    /// Nobody, since no token was chosen.
    Nobody,
}

/// Proof that a request comes from an operator.
pub(super) struct Operator;

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let access = Extension::<OperatorAccess>::from_request_parts(parts, state).await;
        let token = match access {
            Ok(Extension(OperatorAccess::Everybody)) if is_local(&parts.headers) => return Ok(Self),
            Ok(Extension(OperatorAccess::Everybody)) => {
                let why = "this is not for pages of other sites; start the server with THREADYARD_OPERATOR_TOKEN and send it as a bearer token";
                return Err(Error::Forbidden(why.into()).into());
            }
            Ok(Extension(OperatorAccess::Token(token))) => token,
            Ok(Extension(OperatorAccess::Nobody)) | Err(_) => {
                let why = "this is for operators only; start the server with THREADYARD_OPERATOR_TOKEN and send it as a bearer token";
                return Err(Error::Forbidden(why.into()).into());
            }
        };
        let given = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        // Digests of equal length take equally long to compare, however much of the token was guessed.
        if given.is_some_and(|given| Sha256::digest(given) == Sha256::digest(&*token)) {
            return Ok(Self);
        }
        Err(Error::Forbidden("this is for operators only; send THREADYARD_OPERATOR_TOKEN as a bearer token".into())
            .into())
    }
}

/// Proof that a request comes from no page of a site that nobody let in. The protocol for tools wants that of servers, since
/// any site can have its own name lead to this machine.
pub(super) struct NoForeignPage;

impl<S: Send + Sync> FromRequestParts<S> for NoForeignPage {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let origin = parts.headers.get(ORIGIN).map(|value| value.to_str().unwrap_or_default());
        if origin.is_none_or(names_this_machine) {
            return Ok(Self);
        }
        // A server for this machine alone has no pages of others to think of, unless somebody names them.
        let is_open = matches!(parts.extensions.get(), Some(OperatorAccess::Everybody));
        let rules = parts.extensions.get::<Cors>();
        if rules.is_some_and(|rules| rules.admits(&parts.headers) && !(is_open && rules.admits_everybody())) {
            return Ok(Self);
        }
        let why = "this is not for pages of other sites; name theirs in CORS_ALLOW_ORIGINS or http.cors.allow_origins";
        Err(Error::Forbidden(why.into()).into())
    }
}

/// Whether a request is for this machine and from no page of another: any page that a browser here shows can send one, and
/// can have its own name lead here.
fn is_local(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let host = text(HOST).is_none_or(|host| names_this_machine(&format!("http://{host}")));
    host && text(ORIGIN).is_none_or(names_this_machine)
}

fn names_this_machine(origin: &str) -> bool {
    let Ok(url) = Url::parse(origin) else { return false };
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_sites_are_told_from_what_runs_here() {
        for (host, origin, local) in [
            (Some("127.0.0.1:2024"), None, true),
            (Some("localhost"), Some("http://localhost:3000"), true),
            (Some("[::1]:2024"), Some("http://app.localhost"), true),
            (None, None, true),
            (Some("127.0.0.1:2024"), Some("https://evil.example"), false),
            (Some("127.0.0.1:2024"), Some("null"), false),
            (Some("rebound.example:2024"), None, false),
            (Some("127.0.0.1.evil.example"), None, false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(HOST, host), (ORIGIN, origin)] {
                value.map(|value| headers.insert(name, HeaderValue::from_static(value)));
            }
            assert_eq!(is_local(&headers), local, "{host:?} {origin:?}");
        }
    }
}
