//! What requests carry: JSON bodies whatever their content type, ids, and query parameters.

use std::{fmt::Display, str::FromStr};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::BytesRejection},
    http::{StatusCode, request::Parts},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use threadyard_engine::Error;

use super::error::ApiError;

/// A JSON body. An empty or malformed one is refused with a sentence that says where it is wrong.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| unread(&error))?;
        let refused = |why: &dyn Display| invalid(format!("the body is not valid: {why}"));
        // Fields that nobody reads would be skipped unseen.
        let text = std::str::from_utf8(&bytes).map_err(|error| refused(&error))?;
        serde_json::from_str(text).map(Self).map_err(|error| refused(&error))
    }
}

/// Why a body was not read to its end.
fn unread(error: &BytesRejection) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError(Error::TooLarge("the body is larger than this server reads".into()));
    }
    invalid(error.body_text())
}

/// Query parameters.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|query| Self(query.0)).map_err(|error| invalid(error.body_text()))
    }
}

/// Ids in the path: anything that is not a UUID is refused.
pub(super) struct Ids<T>(pub(super) T);

impl<S: Send + Sync, A: FromStr + Send> FromRequestParts<S> for Ids<(A,)> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|it| invalid(it.body_text()))?;
        Ok(Self((id(&text)?,)))
    }
}

impl<S: Send + Sync, A: FromStr + Send, B: FromStr + Send> FromRequestParts<S> for Ids<(A, B)> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((first, second)) = path.map_err(|it| invalid(it.body_text()))?;
        Ok(Self((id(&first)?, id(&second)?)))
    }
}

/// Reads an id.
pub(super) fn id<T: FromStr>(text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|_| invalid(format!("`{text}` is not a UUID")))
}

pub(super) fn invalid(why: impl Display) -> ApiError {
    ApiError(Error::Invalid(why.to_string()))
}

/// A yes or no in a query: SDKs write `true`, `True` and `1`.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "true" | "True" | "1" => Ok(true),
        "false" | "False" | "0" => Ok(false),
        other => Err(serde::de::Error::custom(format!("`{other}` must be true or false"))),
    }
}

/// All values of a query parameter that may be given several times.
pub(super) fn repeated(query: Option<&str>, name: &str) -> Vec<String> {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
}
