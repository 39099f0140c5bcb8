//! Requests whose first line and headers are longer than they may be. Those that are much longer nobody reads to their
//! end: `listen.rs` has them cut off.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};

use super::error::headers_too_long;

/// What stands around the path and the version in the first line, and the empty line at the end.
const AROUND: usize = "  HTTP/1.1\r\n\r\n".len();
/// What stands around the name and the value of a header.
const BETWEEN: usize = ": \r\n".len();

pub(super) async fn refuse_long(State(most): State<usize>, request: Request, next: Next) -> Response {
    if length(&request) > most { headers_too_long(most) } else { next.run(request).await }
}

/// How long they were as they came.
fn length(request: &Request) -> usize {
    let path = request.uri().path_and_query().map_or(0, |it| it.as_str().len());
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + BETWEEN);
    request.method().as_str().len() + path + AROUND + headers.sum::<usize>()
}
