//! The one table that turns errors into answers; no other file names the status of a failure.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use threadyard_engine::Error;

/// A use case's error on its way to the client.
#[derive(Debug)]
pub(super) struct ApiError(pub(super) Error);

pub(super) type Answer<T = Response> = Result<T, ApiError>;

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            // Upstream: this one sentence comes as plain text.
            Error::BadLabel(_) => return (StatusCode::UNPROCESSABLE_ENTITY, self.0.to_string()).into_response(),
            Error::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Error::Refused(_) | Error::Raised(_) => StatusCode::BAD_REQUEST,
            Error::Forbidden(_) => StatusCode::FORBIDDEN,
            Error::Gone(_) => StatusCode::GONE,
            Error::Conflict(_) => StatusCode::CONFLICT,
            Error::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            Error::BrokenGraph { .. } | Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let detail = match &self.0 {
            Error::NotFound(noun) => sentence(noun),
            Error::BrokenGraph { error, .. } => {
                format!("{}\n{}", self.0, error.traceback.as_deref().unwrap_or_default())
            }
            Error::Internal(why) => {
                tracing::error!(why, "a request failed");
                "internal server error".to_owned()
            }
            other => other.to_string(),
        };
        (status, Json(json!({ "detail": detail }))).into_response()
    }
}

/// `thread` becomes `Thread not found.`, the sentence that clients know.
fn sentence(noun: &str) -> String {
    let mut letters = noun.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{} not found.", letters.as_str())
}
