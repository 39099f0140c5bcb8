//! Bodies that do not come: who sends one, and then nothing, is told so instead of being waited for.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::error::body_stalled;

/// The body brought nothing for too long.
#[derive(Debug, thiserror::Error)]
#[error("the body brought nothing for {} s; send it again, and faster", .0.as_secs_f32())]
pub(super) struct Stalled(pub(super) Duration);

/// Ends a request whose body brings nothing for so long while it is waited for. An answer that has begun is its handler's.
pub(super) async fn end_stalled(State(within): State<Duration>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let stalled = CancellationToken::new();
    let (parts, body) = request.into_parts();
    let watched = Watched { body, within, silence: None, stalled: stalled.clone() };
    let answer = next.run(Request::from_parts(parts, Body::new(watched)));
    tokio::select! {
        // A handler that hears of it may say something of its own.
        answer = answer => if stalled.is_cancelled() { body_stalled(&Stalled(within)) } else { answer },
        () = stalled.cancelled() => body_stalled(&Stalled(within)),
    }
}

/// A body that fails when it is waited for in vain.
struct Watched {
    body: Body,
    within: Duration,
    /// Since the body is waited for.
    silence: Option<Pin<Box<Sleep>>>,
    stalled: CancellationToken,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.silence = None;
            return Poll::Ready(frame);
        }
        let within = self.within;
        ready!(self.silence.get_or_insert_with(|| Box::pin(sleep(within))).as_mut().poll(context));
        self.stalled.cancel();
        Poll::Ready(Some(Err(axum::Error::new(Stalled(within)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_piece_may_take_its_time() {
        let pieces = stream::iter(0..5).then(async |n: u8| {
            sleep(Duration::from_secs(if n < 4 { 29 } else { 31 })).await;
            Ok::<_, axum::Error>(Bytes::from(vec![n]))
        });
        let stalled = CancellationToken::new();
        let within = Duration::from_secs(30);
        let body = Watched { body: Body::from_stream(pieces), within, silence: None, stalled: stalled.clone() };
        let mut pieces = Body::new(body).into_data_stream();
        for n in 0..4 {
            assert_eq!(pieces.next().await.unwrap().unwrap(), vec![n]);
        }
        assert!(!stalled.is_cancelled());
        let why = pieces.next().await.unwrap().unwrap_err();
        assert_eq!(why.to_string(), "the body brought nothing for 30 s; send it again, and faster");
        assert!(stalled.is_cancelled());
    }
}
