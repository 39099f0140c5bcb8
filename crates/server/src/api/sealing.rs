//! Under which context the project's own handlers encrypt what a request leaves.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use threadyard_core::{
    json::Object,
    sealing::{SealingContext, SealingHandlers, within},
};
use threadyard_engine::Error;

use super::{
    caller::{OPERATORS, OnBehalf, PUBLIC},
    error::{Answer, ApiError},
};

/// What a caller says of it: JSON in base64.
const HEADER: &str = "x-encryption-context";

/// Handles a request under its context.
pub(super) async fn under_context(
    State(handlers): State<Arc<dyn SealingHandlers>>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let context = context(handlers.as_ref(), &parts).await;
    let request = Request::from_parts(parts, body);
    match context {
        Ok(context) => within(context, next.run(request)).await,
        Err(error) => error.into_response(),
    }
}

async fn context(handlers: &dyn SealingHandlers, request: &Parts) -> Answer<SealingContext> {
    let route = request.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
    if route.is_none_or(|route| PUBLIC.contains(&route) || route.starts_with(OPERATORS)) {
        return Ok(SealingContext::default());
    }
    let said = said(&request.headers)?;
    let user = request.extensions.get::<OnBehalf>().and_then(|OnBehalf(engine)| engine.user());
    let context = handlers.context(user, said).await.map_err(Error::from)?;
    Ok(context.into())
}

fn said(headers: &HeaderMap) -> Result<Object, ApiError> {
    let Some(value) = headers.get(HEADER) else { return Ok(Object::new()) };
    let said = BASE64_STANDARD.decode(value).ok().and_then(|json| serde_json::from_slice(&json).ok());
    said.ok_or_else(|| Error::Invalid(format!("{HEADER} must be a JSON object in base64")).into())
}
