//! Who may do what only operators should, such as reading the keys of webhooks.

use std::sync::Arc;

use axum::{
    Extension,
    extract::FromRequestParts,
    http::{header::AUTHORIZATION, request::Parts},
};
use sha2::{Digest, Sha256};
use threadyard_engine::Error;

use super::error::ApiError;

/// How operators are told from others.
#[derive(Clone)]
pub enum OperatorAccess {
    /// Everybody who reaches the server is one: it listens on this machine only.
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
            Ok(Extension(OperatorAccess::Everybody)) => return Ok(Self),
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
