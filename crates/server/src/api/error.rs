//! The one table that turns errors of use cases into answers.

use axum::{
    Extension, Json,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, TRANSFER_ENCODING, UPGRADE},
    },
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use threadyard_engine::Error;
use threadyard_runtime::Refusal;

use super::{
    json_rpc::{self, RpcError},
    stalled_bodies::Stalled,
};

/// What the log says of a failed request, which its answer carries to whoever writes that.
#[derive(Clone)]
pub(super) struct Detail(pub(super) Box<str>);

/// The log has no use for more, such as the traceback of a graph.
const LOGGED: usize = 300;

impl Detail {
    fn of(detail: &str) -> Self {
        let line = detail.lines().next().unwrap_or_default();
        Self(line.chars().take(LOGGED).collect())
    }
}

/// A use case's error on its way to the client.
#[derive(Debug)]
pub(super) struct ApiError(pub(super) Error);

pub(super) type Answer<T = Response> = Result<T, ApiError>;

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl ApiError {
    /// The status of a failure, and the sentence about it that clients may read.
    pub(super) fn parts(&self) -> (StatusCode, String) {
        (Self::status(&self.0), Self::told(&self.0))
    }

    fn status(error: &Error) -> StatusCode {
        match error {
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::BadLabel(_) | Error::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Error::Refused(_) | Error::Raised(_) => StatusCode::BAD_REQUEST,
            Error::Forbidden(_) => StatusCode::FORBIDDEN,
            Error::Denied { status, .. } => StatusCode::from_u16(*status).unwrap_or(StatusCode::FORBIDDEN),
            Error::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Error::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Gone(_) => StatusCode::GONE,
            Error::Conflict(_) => StatusCode::CONFLICT,
            Error::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            Error::BrokenGraph { .. } | Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Error::Internal(_) | Error::Sealing(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What clients may read about a failure; the rest is for the log.
    pub(super) fn told(error: &Error) -> String {
        match error {
            Error::NotFound(noun) => sentence(noun),
            Error::BrokenGraph { error: cause, .. } => {
                format!("{error}\n{}", cause.traceback.as_deref().unwrap_or_default())
            }
            Error::Internal(why) => {
                tracing::error!(why, "a request failed");
                "internal server error".to_owned()
            }
            other => other.to_string(),
        }
    }
}

impl ApiError {
    /// After how many seconds the same request may succeed.
    pub(super) fn retry_after(&self) -> Option<u64> {
        match &self.0 {
            // Too early would be in vain.
            Error::TooMany { retry_after, .. } => {
                Some(retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0))
            }
            Error::Unavailable(_) => Some(1),
            _ => None,
        }
    }

    /// What whoever decided about access gave along. How an answer is sent is not theirs to say.
    fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let given = match &self.0 {
            Error::Denied { headers, .. } => headers.as_slice(),
            _ => &[],
        };
        given.iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?))).filter(
            |(name, _): &(HeaderName, _)| {
                ![CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, CONNECTION, UPGRADE].contains(name)
            },
        )
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let (status, detail) = error.parts();
        let headers =
            error.headers().filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
        let headers = headers.collect();
        Self { status: status.as_u16(), body: json!({ "detail": detail }).to_string().into(), headers }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, detail) = self.parts();
        let logged = Extension(Detail::of(&detail));
        // Upstream: this one sentence comes as plain text.
        if let Error::BadLabel(_) = self.0 {
            return (status, logged, detail).into_response();
        }
        let mut answer = (status, logged, Json(json!({ "detail": detail }))).into_response();
        if let Some(seconds) = self.retry_after() {
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        answer.headers_mut().extend(self.headers());
        answer
    }
}

/// What is not even a message of the protocol that it was sent to.
pub(super) fn no_message(why: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": why }))).into_response()
}

/// Nothing is left to be read on this connection but what did not come.
pub(super) fn body_stalled(why: Stalled) -> Response {
    let detail = why.to_string();
    let logged = Extension(Detail::of(&detail));
    let closes = [(CONNECTION, HeaderValue::from_static("close"))];
    (StatusCode::REQUEST_TIMEOUT, closes, logged, Json(json!({ "detail": detail }))).into_response()
}

/// The first line and the headers are longer than they may be.
pub(super) fn headers_too_long(most: usize) -> Response {
    let detail = format!("the first line and the headers have more than {most} bytes together");
    let logged = Extension(Detail::of(&detail));
    (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, logged, Json(json!({ "detail": detail }))).into_response()
}

/// A call that is refused where there is no call to answer.
pub(super) fn refused_call(error: &RpcError) -> Response {
    let answer = (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    with_wait(answer, Some(error))
}

/// The answer to a call.
pub(super) fn answered_call(id: &Value, result: Result<Value, RpcError>) -> Response {
    let error = result.as_ref().err().cloned();
    with_wait(Json(json_rpc::answer(id, result)).into_response(), error.as_ref())
}

/// Says also in the words of HTTP, which whatever is between understands, that a call may succeed later.
fn with_wait(mut answer: Response, error: Option<&RpcError>) -> Response {
    if let Some(refusal) = error.and_then(|error| error.data.as_ref())
        && let (Some(seconds), Ok(status)) = (refusal.retry_after, StatusCode::from_u16(refusal.status))
    {
        *answer.status_mut() = status;
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    answer
}

/// Upstream: this sentence has no period.
pub(super) fn not_found() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({ "detail": "Not Found" }))).into_response()
}

/// `thread` becomes `Thread not found.`, the sentence that clients know.
fn sentence(noun: &str) -> String {
    let mut letters = noun.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{} not found.", letters.as_str())
}
