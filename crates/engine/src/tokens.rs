//! Tokens of an identity provider (JWT): who brings one that is believed.

use std::time::Duration;

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    errors::{Error as JwtError, ErrorKind},
    jwk::{AlgorithmParameters, Jwk},
};
use serde_json::json;
use threadyard_core::{
    access::{AccessError, User},
    ambient::Ambient,
    json::{Object, Value},
    ownership::names_somebody,
    time::Timestamp,
    tokens::{TokenAlgorithm, TokenRules},
};

use crate::{Error, issuer_keys::IssuerKeys};

pub(crate) struct Tokens {
    rules: TokenRules,
    keys: IssuerKeys,
    ambient: Ambient,
}

impl Tokens {
    pub(crate) fn new(rules: TokenRules, ambient: Ambient) -> Result<Self, Error> {
        let keys = IssuerKeys::new(&rules, ambient.clone())?;
        Ok(Self { rules, keys, ambient })
    }

    /// Who brings a token.
    pub(crate) async fn bearer(&self, token: &str) -> Result<User, AccessError> {
        let header = decode_header(token).map_err(|_| refused("the bearer token is neither an API key nor a JWT"))?;
        let allowed = self.rules.algorithms.iter().any(|allowed| algorithm(*allowed) == header.alg);
        if !allowed {
            return Err(refused("the token is signed in a way that is not allowed"));
        }
        let key = self.keys.key(header.kid.as_deref()).await?;
        let key = key
            .filter(|key| fits(key, header.alg))
            .ok_or_else(|| refused("the token is signed with an unknown key"))?;
        let claims = self.claims(token, &key, header.alg)?;
        self.check_time(&claims)?;
        self.user(&claims)
    }

    /// What a token says, if it is the issuer's and meant for us.
    fn claims(&self, token: &str, key: &Jwk, signed: Algorithm) -> Result<Object, AccessError> {
        let key =
            DecodingKey::from_jwk(key).map_err(|_| refused("the token is signed with a key of an unknown kind"))?;
        let mut validation = Validation::new(signed);
        validation.set_issuer(&[&self.rules.issuer]);
        validation.set_audience(&self.rules.audience);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // Time is compared below, by our clock.
        validation.validate_exp = false;
        let decoded = decode::<Object>(token, &key, &validation).map_err(|error| refused(&said(&error)))?;
        Ok(decoded.claims)
    }

    fn check_time(&self, claims: &Object) -> Result<(), AccessError> {
        let (now, leeway) = (self.ambient.now(), self.rules.leeway);
        let moment = |name: &str| {
            claims
                .get(name)
                .map(|value| moment(value).ok_or_else(|| refused(&format!("`{name}` of the token is no time"))))
        };
        let expires = moment("exp").transpose()?.ok_or_else(|| refused("the token has no `exp`"))?;
        if now >= expires + leeway {
            return Err(refused("the token has expired"));
        }
        if moment("nbf").transpose()?.is_some_and(|begins| begins > now + leeway) {
            return Err(refused("the token is not valid yet"));
        }
        Ok(())
    }

    fn user(&self, claims: &Object) -> Result<User, AccessError> {
        let identity = claims.get("sub").and_then(Value::as_str).filter(|identity| names_somebody(identity));
        let identity = identity.ok_or_else(|| refused("`sub` of the token names nobody"))?.to_owned();
        let permissions = match &self.rules.scopes_claim {
            Some(claim) => words(claims.get(claim)),
            None => self.rules.scopes.clone(),
        };
        let mut names = ["name", "preferred_username", "email"].into_iter();
        let name = names.find_map(|claim| claims.get(claim)?.as_str()).unwrap_or(&identity).to_owned();
        let user = json!({
            "identity": identity, "permissions": permissions, "display_name": name, "claims": claims,
        });
        serde_json::from_value(user).map_err(|error| AccessError::Failed(error.to_string()))
    }
}

fn refused(why: &str) -> AccessError {
    AccessError::unauthenticated(&format!("Unauthorized: {why}"))
}

fn said(error: &JwtError) -> String {
    match error.kind() {
        ErrorKind::InvalidSignature => "the signature of the token is wrong".into(),
        ErrorKind::InvalidIssuer => "the token is of another issuer".into(),
        ErrorKind::InvalidAudience => "the token is meant for somebody else".into(),
        ErrorKind::MissingRequiredClaim(claim) => format!("the token has no `{claim}`"),
        _ => "the token makes no sense".into(),
    }
}

/// The words of a claim: a list, or a text with spaces between.
fn words(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// A moment that is written in seconds since 1970.
fn moment(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0)?;
    Some(Timestamp(0) + Duration::try_from_secs_f64(seconds).ok()?)
}

/// Whether a key is one that signs like this.
fn fits(key: &Jwk, signed: Algorithm) -> bool {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let kind = match &key.algorithm {
        AlgorithmParameters::RSA(_) => matches!(signed, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
        AlgorithmParameters::EllipticCurve(_) => matches!(signed, ES256 | ES384),
        AlgorithmParameters::OctetKeyPair(_) => signed == EdDSA,
        _ => false,
    };
    kind && key.common.key_algorithm.is_none_or(|said| Algorithm::try_from(said).is_ok_and(|said| said == signed))
}

fn algorithm(named: TokenAlgorithm) -> Algorithm {
    match named {
        TokenAlgorithm::RS256 => Algorithm::RS256,
        TokenAlgorithm::RS384 => Algorithm::RS384,
        TokenAlgorithm::RS512 => Algorithm::RS512,
        TokenAlgorithm::PS256 => Algorithm::PS256,
        TokenAlgorithm::PS384 => Algorithm::PS384,
        TokenAlgorithm::PS512 => Algorithm::PS512,
        TokenAlgorithm::ES256 => Algorithm::ES256,
        TokenAlgorithm::ES384 => Algorithm::ES384,
        TokenAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}
