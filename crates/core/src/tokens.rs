//! Tokens of an identity provider (JWT): which of them are believed, and what they permit.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Which tokens are believed, and what they permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// Who has to have issued them.
    pub issuer: String,
    /// Whom they have to be meant for: one of these.
    pub audience: Vec<String>,
    /// Where the issuer's keys are; as its configuration says (OIDC discovery) when nobody does.
    pub jwks_url: Option<Url>,
    /// How they may be signed.
    pub algorithms: Vec<TokenAlgorithm>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// The claim that says what they permit.
    pub scopes_claim: Option<String>,
    /// What they permit where no claim says so.
    pub scopes: Vec<String>,
}

/// How a token may be signed: with a key of which everybody may know the public half. There is no `none`, and nothing
/// that a public key could be taken for the secret of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of RFC 7518 and RFC 8037")]
pub enum TokenAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl fmt::Display for TokenAlgorithm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self:?}")
    }
}

/// Whether nobody on the way to this place can put in keys of their own.
pub fn is_private_way(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for (url, private) in [
            ("https://id.example.com/jwks", true),
            ("http://127.0.0.1:1/jwks", true),
            ("http://localhost/jwks", true),
            ("http://id.example.com/jwks", false),
            ("http://localhost.example.com/jwks", false),
            ("ftp://localhost/jwks", false),
        ] {
            assert_eq!(is_private_way(&url.parse().unwrap()), private, "{url}");
        }
    }
}
