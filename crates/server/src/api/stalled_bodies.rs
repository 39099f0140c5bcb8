//! Bodies that do not come, or so slowly that they only hold a connection: who sends one is told so instead of being waited
//! for.

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

/// How long a body is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// For so long it may bring nothing.
    Silence(Duration),
    /// So long it may take in all, and longer by what it brings: a second for each KiB.
    Whole(Duration),
}

/// What a body has to bring in each second, on average, once its time is over.
const SLOWEST: u32 = 1024;

/// The body was waited for in vain.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum Stalled {
    /// It brought nothing for too long.
    #[error("the body brought nothing for {} s; send it again, and faster", .0.as_secs_f32())]
    Silent(Duration),
    /// It brings too little.
    #[error("the body is not here after {} s and a second for each KiB; send it again, and faster", .0.as_secs_f32())]
    Slow(Duration),
}

/// Ends a request whose body does not come while it is waited for. An answer that has begun is its handler's.
pub(super) async fn end_stalled(State(patience): State<Patience>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let stalled = CancellationToken::new();
    let (parts, body) = request.into_parts();
    let watched = Watched { body, patience, timer: None, stalled: stalled.clone() };
    let answer = next.run(Request::from_parts(parts, Body::new(watched)));
    tokio::select! {
        // A handler that hears of it may say something of its own.
        answer = answer => if stalled.is_cancelled() { body_stalled(patience.exhausted()) } else { answer },
        () = stalled.cancelled() => body_stalled(patience.exhausted()),
    }
}

impl Patience {
    fn first(self) -> Duration {
        let (Self::Silence(within) | Self::Whole(within)) = self;
        within
    }

    fn exhausted(self) -> Stalled {
        match self {
            Self::Silence(within) => Stalled::Silent(within),
            Self::Whole(within) => Stalled::Slow(within),
        }
    }
}

/// A body that fails when it is waited for in vain.
struct Watched {
    body: Body,
    patience: Patience,
    /// Since the body is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    stalled: CancellationToken,
}

impl Watched {
    /// Something came, so that more is waited for.
    fn heard(&mut self, frame: Option<&Frame<Bytes>>) {
        match (self.patience, &mut self.timer) {
            (Patience::Silence(_), timer) => *timer = None,
            (Patience::Whole(_), Some(timer)) => {
                let bytes = frame.and_then(Frame::data_ref).map_or(0, Bytes::len);
                let until =
                    timer.deadline() + Duration::from_secs(1) * u32::try_from(bytes).unwrap_or(u32::MAX) / SLOWEST;
                timer.as_mut().reset(until);
            }
            (Patience::Whole(_), None) => {}
        }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.heard(frame.as_ref().and_then(|frame| frame.as_ref().ok()));
            return Poll::Ready(frame);
        }
        let patience = self.patience;
        ready!(self.timer.get_or_insert_with(|| Box::pin(sleep(patience.first()))).as_mut().poll(context));
        self.stalled.cancel();
        Poll::Ready(Some(Err(axum::Error::new(patience.exhausted()))))
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
    use axum::body::BodyDataStream;
    use futures_util::{Stream, StreamExt, stream};

    use super::*;

    fn watched(
        pieces: impl Stream<Item = Vec<u8>> + Send + 'static,
        patience: Patience,
    ) -> (BodyDataStream, CancellationToken) {
        let stalled = CancellationToken::new();
        let body = Body::from_stream(pieces.map(Ok::<_, axum::Error>));
        let body = Watched { body, patience, timer: None, stalled: stalled.clone() };
        (Body::new(body).into_data_stream(), stalled)
    }

    #[tokio::test(start_paused = true)]
    async fn each_piece_may_take_its_time() {
        let pieces = stream::iter(0..5).then(async |n: u8| {
            sleep(Duration::from_secs(if n < 4 { 29 } else { 31 })).await;
            vec![n]
        });
        let (mut pieces, stalled) = watched(pieces, Patience::Silence(Duration::from_secs(30)));
        for n in 0..4 {
            assert_eq!(pieces.next().await.unwrap().unwrap(), vec![n]);
        }
        assert!(!stalled.is_cancelled());
        let why = pieces.next().await.unwrap().unwrap_err();
        assert_eq!(why.to_string(), "the body brought nothing for 30 s; send it again, and faster");
        assert!(stalled.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_takes_as_long_as_it_is_worth() {
        let each_second = |bytes: usize| {
            stream::iter(0..600).then(move |_: u32| async move {
                sleep(Duration::from_secs(1)).await;
                vec![0; bytes]
            })
        };
        let patience = Patience::Whole(Duration::from_mins(1));
        for (bytes, come) in [(1, 60), (512, 119), (1024, 600)] {
            let (pieces, stalled) = watched(each_second(bytes), patience);
            let came = pieces.take_while(|piece| std::future::ready(piece.is_ok())).count().await;
            assert_eq!((came, stalled.is_cancelled()), (come, come < 600), "{bytes} bytes in each second");
        }
    }
}
