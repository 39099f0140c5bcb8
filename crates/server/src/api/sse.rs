//! Streams to clients: server-sent events, and JSON answers that are kept alive while they are waited for.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, future::BoxFuture, stream};
use threadyard_core::{
    ids::{RunId, ThreadId},
    stream::{EventId, StreamEvent},
};
use threadyard_engine::{Engine, Result, RunStream, ThreadStream};
use tokio::time::{Instant, Interval, MissedTickBehavior, timeout};

use super::error::ApiError;

/// How often a connection is kept alive, whatever else is said: what is said may be nothing that its client wants.
const HEARTBEAT: Duration = Duration::from_secs(5);

pub(super) const BEAT: Bytes = Bytes::from_static(b": heartbeat\r\n\r\n");

pub(super) fn heartbeats() -> Interval {
    let mut beats = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

/// Stops a run when the client that it is for goes away before its end.
pub(super) struct Watchdog {
    engine: Engine,
    thread_id: ThreadId,
    run_id: RunId,
    armed: bool,
}

impl Watchdog {
    pub(super) fn new(engine: Engine, thread_id: ThreadId, run_id: RunId, armed: bool) -> Self {
        Self { engine, thread_id, run_id, armed }
    }

    /// The client has had everything.
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (engine, thread_id, run_id) = (self.engine.clone(), self.thread_id, self.run_id);
        drop(self.engine.background(async move {
            if let Err(error) = engine.cancel_abandoned_run(thread_id, run_id).await {
                tracing::warn!(%run_id, %error, "the run of a client that left could not be stopped");
            }
        }));
    }
}

/// A run's events.
pub(super) fn events(stream: RunStream, watchdog: Watchdog, headers: HeaderMap) -> Response {
    let chunks = stream::unfold((stream, watchdog, heartbeats()), |(mut stream, watchdog, mut beats)| async move {
        loop {
            let next = tokio::select! {
                next = stream.next() => next,
                _ = beats.tick() => return Some((BEAT, (stream, watchdog, beats))),
            };
            let Some((first, events)) = next else {
                watchdog.disarm();
                return None;
            };
            let ids = first.filter(|_| stream.with_ids);
            let chunk = render(&events, ids, |event| first.is_none() || stream.wants(&event.name));
            if !chunk.is_empty() {
                return Some((chunk, (stream, watchdog, beats)));
            }
        }
    });
    event_stream(chunks, headers)
}

/// What the runs of a thread say, for as long as the client listens.
pub(super) fn thread_events(stream: ThreadStream) -> Response {
    let chunks = stream::unfold((stream, heartbeats()), |(mut stream, mut beats)| async move {
        let chunk = tokio::select! {
            (first, events) = stream.next() => render(&events, Some(first), |_| true),
            _ = beats.tick() => BEAT,
        };
        Some((chunk, (stream, beats)))
    });
    event_stream(chunks, HeaderMap::new())
}

/// A stream of one event, for failures that belong into the stream.
pub(super) fn single(name: &str, data: &serde_json::Value, headers: HeaderMap) -> Response {
    let text = format!("event: {name}\r\ndata: {data}\r\n\r\n");
    event_stream(stream::iter([Bytes::from(text)]), headers)
}

pub(super) fn event_stream(chunks: impl Stream<Item = Bytes> + Send + 'static, mut headers: HeaderMap) -> Response {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    (headers, body(chunks)).into_response()
}

fn body(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    use futures_util::StreamExt as _;
    Body::from_stream(chunks.map(Ok::<_, Infallible>))
}

/// Writes the events that are wanted, with ids that count from the first's when there is one.
fn render(events: &[StreamEvent], first: Option<EventId>, wanted: impl Fn(&StreamEvent) -> bool) -> Bytes {
    let size = events.iter().map(|event| event.name.len() + event.data.len() + 64).sum();
    let mut out = Vec::with_capacity(size);
    for (event, place) in events.iter().zip(0..) {
        if !wanted(event) {
            continue;
        }
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.name.as_bytes());
        out.extend_from_slice(b"\r\ndata: ");
        out.extend_from_slice(&event.data);
        if let Some(first) = first {
            let id = EventId { seq: first.seq + place, ..first };
            out.extend_from_slice(format!("\r\nid: {id}").as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
    out.into()
}

/// What a run results in, in an answer that takes its time.
pub(super) fn waiting(
    result: impl Future<Output = Result<Bytes>> + Send + 'static,
    watchdog: Watchdog,
    headers: HeaderMap,
) -> Response {
    kept_alive(async move { result.await.unwrap_or_else(|error| failure(&error)) }, watchdog, headers)
}

/// A JSON answer that takes its time: line breaks keep the connection alive until it is there.
pub(super) fn kept_alive(
    answer: impl Future<Output = Bytes> + Send + 'static,
    watchdog: Watchdog,
    mut headers: HeaderMap,
) -> Response {
    enum Waiting {
        For(BoxFuture<'static, Bytes>, Watchdog),
        Over,
    }
    let start = Waiting::For(Box::pin(answer), watchdog);
    let chunks = stream::unfold(start, |state| async move {
        let Waiting::For(mut answer, watchdog) = state else { return None };
        let Ok(answer) = timeout(HEARTBEAT, &mut answer).await else {
            return Some((Bytes::from_static(b"\n"), Waiting::For(answer, watchdog)));
        };
        watchdog.disarm();
        Some((answer, Waiting::Over))
    });
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (headers, body(chunks)).into_response()
}

/// A message of another protocol, whose data is JSON.
pub(super) struct Said {
    data: String,
    /// Where a client can go on behind it.
    id: Option<EventId>,
}

impl Said {
    pub(super) fn of(data: &serde_json::Value) -> Self {
        Self { data: data.to_string(), id: None }
    }

    /// The same, at a place that a client can come back to.
    pub(super) fn behind(self, id: Option<EventId>) -> Self {
        Self { id, ..self }
    }

    fn bytes(&self) -> Bytes {
        let id = self.id.map(|id| format!("\r\nid: {id}")).unwrap_or_default();
        Bytes::from(format!("event: message\r\ndata: {}{id}\r\n\r\n", self.data))
    }
}

/// The messages of another protocol, as they come.
pub(super) fn said(said: impl Stream<Item = Said> + Send + 'static, watchdog: Watchdog) -> Response {
    use futures_util::StreamExt as _;
    let start = (Box::pin(said), watchdog, heartbeats());
    let chunks = stream::unfold(start, |(mut said, watchdog, mut beats)| async move {
        let next = tokio::select! {
            next = said.next() => next,
            _ = beats.tick() => return Some((BEAT, (said, watchdog, beats))),
        };
        let Some(next) = next else {
            watchdog.disarm();
            return None;
        };
        Some((next.bytes(), (said, watchdog, beats)))
    });
    event_stream(chunks, HeaderMap::new())
}

/// The status has been sent already, so that the failure is in the body.
fn failure(error: &threadyard_engine::Error) -> Bytes {
    let message = match error {
        threadyard_engine::Error::NotFound(_) => "404: Run not found".to_owned(),
        other => ApiError::told(other),
    };
    Bytes::from(serde_json::json!({ "__error__": { "error": "HTTPException", "message": message } }).to_string())
}
