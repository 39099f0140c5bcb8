//! A request to the user's application: its body goes there and the answer comes back, both as they come.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    BoxError,
    body::{Body, Bytes},
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, Stream, StreamExt, future::Fuse, stream};
use threadyard_runtime::{AppMessage, Exchange, ExchangeLost, ExchangeReceiver, ExchangeSender};

use super::{failed, headers_of};

/// What brings the body to the application, until all of it is there.
type Pump = Pin<Box<dyn Future<Output = Result<(), BrokenOff>> + Send>>;

/// The rest of the body does not come.
#[derive(Debug, thiserror::Error)]
#[error("the request broke off")]
struct BrokenOff;

pub(super) async fn serve(exchange: Exchange, request: Request) -> Response {
    let Exchange { mut receiver, sender } = exchange;
    let pump: Pump = Box::pin(pump(request.into_body(), sender));
    let mut pump = pump.fuse();
    loop {
        let heard = tokio::select! {
            heard = receiver.next() => heard,
            pumped = &mut pump => match pumped {
                Ok(()) => continue,
                Err(BrokenOff) => return failed(),
            },
        };
        match heard {
            Ok(Some(AppMessage::ResponseStart { status, headers })) => {
                let Ok(status) = StatusCode::from_u16(status) else { return failed() };
                let body = Body::from_stream(Pumped { pump, body: Box::pin(body(receiver)) });
                return (status, headers_of(&headers), body).into_response();
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return failed(),
        }
    }
}

async fn pump(body: Body, sender: ExchangeSender) -> Result<(), BrokenOff> {
    let mut body = body.into_data_stream();
    while let Some(piece) = body.next().await {
        // A client that left in the middle, or rests there, is gone with the whole exchange, and must not seem to be done.
        let body = piece.map_err(|_| BrokenOff)?;
        sender.send(AppMessage::Request { body, more_body: true }).await;
    }
    sender.send(AppMessage::Request { body: Bytes::new(), more_body: false }).await;
    Ok(())
}

/// The body of the answer; an error where the application broke off, so that nobody takes a part for the whole.
fn body(receiver: ExchangeReceiver) -> impl Stream<Item = Result<Bytes, ExchangeLost>> + Send {
    stream::unfold(Some(receiver), async |receiver| {
        let mut receiver = receiver?;
        loop {
            return match receiver.next().await {
                Ok(Some(AppMessage::ResponseBody { body, more_body: true })) => Some((Ok(body), Some(receiver))),
                Ok(Some(AppMessage::ResponseBody { body, more_body: false })) => Some((Ok(body), None)),
                Ok(Some(_)) => continue,
                Ok(None) => Some((Err(ExchangeLost::early()), None)),
                Err(lost) => Some((Err(lost), None)),
            };
        }
    })
}

/// An answer that begins while the request still comes.
struct Pumped<S> {
    pump: Fuse<Pump>,
    body: Pin<Box<S>>,
}

impl<S: Stream<Item = Result<Bytes, ExchangeLost>>> Stream for Pumped<S> {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(Err(broken_off)) = self.pump.poll_unpin(context) {
            return Poll::Ready(Some(Err(broken_off.into())));
        }
        self.body.as_mut().poll_next(context).map_err(Into::into)
    }
}
