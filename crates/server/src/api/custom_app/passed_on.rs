//! Requests that the user's application has no route for: the server's own routes answer them, and the answer goes back
//! through the application's middleware, as it comes.

use std::net::SocketAddr;

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{Method, Uri, header},
    response::Response,
};
use futures_util::StreamExt;
use threadyard_core::ambient::Ambient;
use threadyard_runtime::{
    AppMessage, Exchange, ExchangeReceiver, ExchangeSender, PassedOn, PassedOnReceiver, PassedScope,
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{Peer, headers_of};
use crate::api::request_id::RequestId;

/// How many pieces of a body wait for the route that reads them.
const PIECES_AHEAD: usize = 4;

/// Answers until nothing is passed on any more.
pub(crate) async fn answer_passed_on(
    mut passed_on: PassedOnReceiver,
    api: Router,
    ambient: Ambient,
    tasks: TaskTracker,
    stopped: CancellationToken,
) {
    while let Some(Some(PassedOn { scope, exchange })) = stopped.run_until_cancelled(passed_on.recv()).await {
        tasks.spawn(answer(api.clone(), scope, exchange, ambient.clone()));
    }
}

async fn answer(api: Router, scope: PassedScope, Exchange { receiver, sender }: Exchange, ambient: Ambient) {
    let (pieces, body) = mpsc::channel(PIECES_AHEAD);
    let answering = async {
        let Some(request) = request(scope, body, &ambient) else {
            tracing::warn!("the application passes on a request that makes no sense");
            return;
        };
        let answer = api.oneshot(request).await.unwrap_or_else(|never| match never {});
        send(answer, &sender).await;
    };
    tokio::select! {
        () = answering => {}
        // Dropping the answer is how the routes hear that the client has left.
        () = until_left(receiver, pieces) => {}
    }
}

fn request(scope: PassedScope, body: mpsc::Receiver<Bytes>, ambient: &Ambient) -> Option<Request> {
    let query = String::from_utf8(scope.query_string.into()).ok()?;
    let mark = if query.is_empty() { "" } else { "?" };
    let uri: Uri = format!("{}{mark}{query}", scope.path).parse().ok()?;
    let pieces = futures_util::stream::unfold(body, async |mut body| Some((body.recv().await?, body)));
    let mut request = Request::new(Body::from_stream(pieces.map(Ok::<_, std::convert::Infallible>)));
    *request.method_mut() = Method::from_bytes(scope.method.as_bytes()).ok()?;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers_of(&scope.headers);
    let id = RequestId::of(request.headers(), ambient);
    request.extensions_mut().insert(id);
    let address = scope.client.and_then(|(address, port)| Some(SocketAddr::new(address.parse().ok()?, port)));
    if let Some(address) = address {
        request.extensions_mut().insert(Peer { address, secure: scope.scheme.as_deref() == Some("https") });
    }
    Some(request)
}

/// Passes on the body of the request, and ends when the client has left.
async fn until_left(mut receiver: ExchangeReceiver, pieces: mpsc::Sender<Bytes>) {
    let mut pieces = Some(pieces);
    while let Ok(Some(message)) = receiver.next().await {
        match message {
            AppMessage::Request { body, more_body } => {
                if let Some(pieces) = pieces.as_ref().filter(|_| !body.is_empty()) {
                    // A route that has answered already need not read it.
                    let _ = pieces.send(body).await;
                }
                if !more_body {
                    pieces = None;
                }
            }
            AppMessage::Disconnect => return,
            _ => {}
        }
    }
}

async fn send(answer: Response, sender: &ExchangeSender) {
    let (parts, body) = answer.into_parts();
    let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let headers = parts.headers.iter().map(|(name, value)| (bytes(name.as_str().as_bytes()), bytes(value.as_bytes())));
    let mut headers: Vec<_> = headers.collect();
    if let Some(length) = body.size_hint().exact().filter(|_| !parts.headers.contains_key(header::CONTENT_LENGTH)) {
        headers.push((bytes(b"content-length"), length.to_string().into()));
    }
    sender.send(AppMessage::ResponseStart { status: parts.status.as_u16(), headers }).await;
    let mut body = body.into_data_stream();
    while let Some(piece) = body.next().await {
        // What breaks off is not ended either.
        let Ok(body) = piece else { return };
        sender.send(AppMessage::ResponseBody { body, more_body: true }).await;
    }
    sender.send(AppMessage::ResponseBody { body: Bytes::new(), more_body: false }).await;
}
