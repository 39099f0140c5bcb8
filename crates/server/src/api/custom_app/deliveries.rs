//! Webhooks that the user's application takes itself, in this process. It takes them on its own routes and no other ones:
//! nobody asks for credentials here, so that a delivery must not lead where its maker could not go.

use std::sync::Arc;

use async_trait::async_trait;
use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, Method, StatusCode, Uri},
};
use bytes::Bytes;
use futures_util::StreamExt;
use percent_encoding::percent_decode_str;
use threadyard_core::{
    own_app::{OwnAnswer, OwnApp, OwnDelivery},
    runtime::RuntimeError,
};
use threadyard_runtime::{AppScope, CustomApp, HttpOptions, Target};

use super::{headers_of, request, scope};

/// So much of an answer's body is waited for: the status decides.
const MOST_READ: usize = 64 << 10;

/// The routes of the application, as deliveries find them.
pub(crate) struct OwnRoutes {
    app: Arc<CustomApp>,
    prefix: String,
    /// Whether its routes are for callers that are known.
    guarded: bool,
}

impl OwnRoutes {
    pub(crate) fn new(app: Arc<CustomApp>, options: &HttpOptions) -> Self {
        Self { app, prefix: options.mount_prefix.clone(), guarded: options.custom_route_auth }
    }

    /// Who the routes are told that it is, as JSON.
    fn user(&self, delivery: &OwnDelivery) -> Result<Option<Bytes>, StatusCode> {
        match &delivery.maker {
            _ if !self.guarded => Ok(None),
            None => Err(StatusCode::UNAUTHORIZED),
            Some(maker) => match serde_json::to_vec(maker) {
                Ok(user) => Ok(Some(user.into())),
                Err(_) => Err(StatusCode::UNAUTHORIZED),
            },
        }
    }
}

#[async_trait]
impl OwnApp for OwnRoutes {
    async fn take(&self, delivery: OwnDelivery) -> Result<OwnAnswer, RuntimeError> {
        let uri: Uri = match delivery.route.parse() {
            Ok(uri) => uri,
            Err(_) => return Ok(answer(StatusCode::NOT_FOUND)),
        };
        let path = percent_decode_str(uri.path()).decode_utf8_lossy().into_owned();
        let target = Target { method: Method::POST.as_str(), path: &path, websocket: false };
        // Upstream: whether the server lives is not the application's to say.
        if path == "/ok" || !self.app.has_route(target) {
            return Ok(answer(StatusCode::NOT_FOUND));
        }
        let user = match self.user(&delivery) {
            Ok(user) => user,
            Err(status) => return Ok(answer(status)),
        };
        let request = request_of(uri, delivery);
        let scope = AppScope { user, own_only: true, ..scope(&request, &path, &self.prefix, false) };
        let answered = request::serve(self.app.open(&scope)?, request).await;
        let headers = texts(answered.headers());
        let status = answered.status().as_u16();
        // An application that is left before its answer ends may take that for a client that is gone.
        let (mut body, mut read) = (answered.into_body().into_data_stream(), 0);
        while let Some(Ok(piece)) = body.next().await {
            read += piece.len();
            if read > MOST_READ {
                break;
            }
        }
        Ok(OwnAnswer { status, headers })
    }
}

fn answer(status: StatusCode) -> OwnAnswer {
    OwnAnswer { status: status.as_u16(), headers: Vec::new() }
}

/// The delivery as a request of nobody in particular: it has no address that a route could trust.
fn request_of(uri: Uri, delivery: OwnDelivery) -> Request {
    let headers = delivery.headers.into_iter().map(|(name, value)| (name.into(), value.into()));
    let mut request = Request::new(Body::from(delivery.body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers_of(&headers.collect::<Vec<_>>());
    request
}

fn texts(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}
