//! Reading what a run says: from its start, from an event on, or only its result.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use threadyard_core::{
    bus::{Closing, From, Received, Subscription},
    events::kept_id,
    ids::{RunId, ThreadId},
    runs::{Run, RunError, RunStatus},
    storage::{Storage, StorageError},
    stream::{EventId, StreamEvent, StreamMode},
};

use crate::{Engine, Result};

/// What a reader is told who fell too far behind.
const LAGGED: &str = "the reader fell so far behind that events are lost; the thread's state has what the run does, and a \
    resumable stream can be joined behind the last id";

/// What a run says, as one reader sees it.
pub struct RunStream {
    live: Option<Box<dyn Subscription>>,
    kept: Option<Kept>,
    /// What it closed with, once it has.
    closed: Option<Closing>,
    /// Whether events carry their ids.
    pub with_ids: bool,
    /// Only events of these modes; all when empty.
    modes: Vec<StreamMode>,
}

/// A reader's place in what is kept of a resumable run.
struct Kept {
    storage: Arc<dyn Storage>,
    run: Run,
    /// The place of the last event that was read. None when the reader begins with whatever comes next.
    last: Option<u64>,
    /// Whether there may be more behind that place than the live stream will tell.
    behind: bool,
    /// Whether the live stream did not tell everything, so that storage must.
    lags: bool,
    /// Whether the reader goes on behind what can't be read any more.
    leaps: bool,
}

impl Kept {
    /// Reads on from storage. `None` when nothing is left there.
    async fn read(&mut self) -> Result<Option<(EventId, Vec<StreamEvent>)>> {
        let Some(last) = self.last.filter(|_| self.behind) else { return Ok(None) };
        let page = self.storage.kept_events(self.run.run_id, last).await?;
        if !self.leaps && page.iter().any(|(_, event)| event.is_lost()) {
            return Err(StorageError::Sealing("what the run has said can't be decrypted".into()).into());
        }
        let (Some((first, _)), Some((end, _))) = (page.first(), page.last()) else {
            self.behind = false;
            return Ok(None);
        };
        let first = kept_id(&self.run, *first);
        (self.last, self.lags) = (Some(*end), false);
        Ok(Some((first, page.into_iter().map(|(_, event)| event).collect())))
    }

    /// The part of live events that was not read yet, or `None` when there is more in storage before it.
    fn unread(&mut self, first: EventId, mut events: Vec<StreamEvent>) -> Option<(EventId, Vec<StreamEvent>)> {
        let end = first.seq + events.len() as u64;
        let begin = self.last.map_or(first.seq, |last| last.saturating_add(1));
        if first.seq > begin {
            (self.behind, self.lags) = (true, true);
            return None;
        }
        let read = usize::try_from(begin - first.seq).unwrap_or(usize::MAX).min(events.len());
        events.drain(..read);
        self.last = self.last.max(Some(end - 1));
        Some((EventId { seq: begin, ..first }, events))
    }
}

impl RunStream {
    /// Only what comes from now on.
    pub(crate) fn live(live: Box<dyn Subscription>) -> Self {
        Self { live: Some(live), kept: None, closed: None, with_ids: false, modes: Vec::new() }
    }

    /// The same for a reader who goes on behind events that can't be read any more, and is given their places.
    pub(crate) fn leaping(mut self) -> Self {
        if let Some(kept) = &mut self.kept {
            kept.leaps = true;
        }
        self
    }

    /// Waits for the next events, with the id of the first. `None` ends the stream. Events without an id are about the
    /// stream itself, and for every reader.
    pub async fn next(&mut self) -> Option<(Option<EventId>, Vec<StreamEvent>)> {
        loop {
            match self.read_kept().await {
                // It was deleted with its thread.
                Ok(None) if self.kept.as_ref().is_some_and(|kept| kept.lags) => {
                    return Some(self.broken("StreamLagged", LAGGED));
                }
                Ok(None) => {}
                Ok(Some((first, events))) => return Some((Some(first), events)),
                Err(error) => return Some(self.broken("StorageError", &error.to_string())),
            }
            match (self.live.as_mut()?.next().await, &mut self.kept) {
                (Received::Events(first, events), None) => return Some((Some(first), events)),
                (Received::Events(first, events), Some(kept)) => match kept.unread(first, events) {
                    Some((first, events)) if !events.is_empty() => return Some((Some(first), events)),
                    _ => {}
                },
                (Received::Lagged, Some(kept @ Kept { last: Some(_), .. })) => (kept.behind, kept.lags) = (true, true),
                (Received::Lagged, _) => return Some(self.broken("StreamLagged", LAGGED)),
                (Received::Closed(closing), Some(kept)) => {
                    self.closed = Some(closing);
                    // What the stream closed with may be known to storage only.
                    kept.behind = true;
                    self.live = None;
                }
                (Received::Closed(closing), None) => {
                    (self.closed, self.live) = (Some(closing), None);
                    return None;
                }
            }
        }
    }

    async fn read_kept(&mut self) -> Result<Option<(EventId, Vec<StreamEvent>)>> {
        match &mut self.kept {
            Some(kept) => kept.read().await,
            None => Ok(None),
        }
    }

    /// Ends the stream with a word about itself.
    fn broken(&mut self, class: &str, message: &str) -> (Option<EventId>, Vec<StreamEvent>) {
        (self.live, self.kept) = (None, None);
        let error = RunError { error: class.into(), message: message.into() };
        (None, vec![StreamEvent::of("error", &error)])
    }

    /// Whether the reader asked for events of this name.
    pub fn wants(&self, name: &str) -> bool {
        self.modes.is_empty() || self.modes.iter().any(|mode| mode.owns(name))
    }

    /// Waits for the end of the run, wherever the reader is.
    pub async fn closing(mut self) -> Closing {
        if let Some(closing) = self.closed.take() {
            return closing;
        }
        let Some(mut subscription) = self.live.take() else { return Closing::default() };
        loop {
            match subscription.next().await {
                Received::Closed(closing) => return closing,
                Received::Events(..) | Received::Lagged => {}
            }
        }
    }
}

impl Engine {
    /// Everything a new run will say.
    pub(crate) fn open_stream(&self, run: &Run) -> RunStream {
        let live = self.bus.follow(run.run_id, run.thread_id, From::Start);
        self.stream_of(run, Some(live), Some(0), Vec::new())
    }

    /// What a run says from now on, or after `last_event_id` when its events are kept.
    pub async fn join_stream(
        &self,
        thread_id: ThreadId,
        run_id: RunId,
        last_event_id: Option<&str>,
        modes: Vec<StreamMode>,
    ) -> Result<RunStream> {
        let run = self.run(thread_id, run_id).await?;
        let live = self.follow(&run, From::Now).await?;
        let of_this_run = |id: &EventId| *id == EventId::START || id.epoch_ms == kept_id(&run, 0).epoch_ms;
        let last = last_event_id.and_then(EventId::parse).filter(of_this_run).map(|id| id.seq);
        let mut stream = self.stream_of(&run, live, last, modes);
        if let Some(kept) = &mut stream.kept {
            kept.behind = true;
        }
        Ok(stream)
    }

    /// What a run says behind a place, also what is kept of it only.
    pub(crate) fn replayed_stream(&self, run: &Run, live: Option<Box<dyn Subscription>>, after: u64) -> RunStream {
        let mut stream = self.stream_of(run, live, Some(after), Vec::new());
        if let Some(kept) = &mut stream.kept {
            kept.behind = true;
        }
        stream
    }

    /// What a run says behind a place, as far as the live stream does not leave anything out.
    pub(crate) fn stream_of(
        &self,
        run: &Run,
        live: Option<Box<dyn Subscription>>,
        last: Option<u64>,
        modes: Vec<StreamMode>,
    ) -> RunStream {
        let resumable = run.kwargs.resumable;
        let kept =
            || Kept { storage: self.storage.clone(), run: run.clone(), last, behind: false, lags: false, leaps: false };
        RunStream { live, kept: resumable.then(kept), closed: None, with_ids: resumable, modes }
    }

    /// What `wait` answers for a run whose stream was held from its start.
    pub async fn wait_for(&self, thread_id: ThreadId, run_id: RunId, stream: RunStream) -> Result<Bytes> {
        match stream.closing().await.result {
            Some(result) => Ok(result),
            None => self.stored_result(thread_id, run_id).await,
        }
    }

    /// Waits until a run has ended and answers what it left.
    pub async fn join_run(&self, thread_id: ThreadId, run_id: RunId) -> Result<Bytes> {
        let run = self.run(thread_id, run_id).await?;
        let live = self.follow(&run, From::Now).await?;
        let stream = self.stream_of(&run, live, None, Vec::new());
        match stream.closing().await.result {
            Some(result) => Ok(result),
            None => self.stored_result(thread_id, run_id).await,
        }
    }

    /// Reads what a run says. The stream of one that has not begun since this server started is opened for that.
    pub(crate) async fn follow(&self, run: &Run, from: From) -> Result<Option<Box<dyn Subscription>>> {
        let known = self.bus.subscribe(run.run_id, from);
        if known.is_some() || run.status.is_terminal() {
            return Ok(known);
        }
        let subscription = self.bus.follow(run.run_id, run.thread_id, from);
        // It may have ended before the stream was open, and then nobody else closes it.
        let now = self.storage.unopened_run(run.run_id).await?;
        if now.is_none_or(|run| run.status.is_terminal()) {
            self.bus.close(run.run_id, Closing::default());
        }
        Ok(Some(subscription))
    }

    /// What is known of the result of a run that has ended: the thread's values as they are now.
    async fn stored_result(&self, thread_id: ThreadId, run_id: RunId) -> Result<Bytes> {
        let run = self.storage.run(thread_id, run_id).await?;
        if let Some((RunStatus::Error, Some(error))) = run.map(|run| (run.status, run.error)) {
            return Ok(failed_result(error));
        }
        let values = self.storage.thread(thread_id).await?.and_then(|thread| thread.values.known());
        Ok(values
            .map_or_else(|| Bytes::from_static(b"{}"), |values| Bytes::from(String::from(Box::<str>::from(values)))))
    }
}

/// What waiting for a run results in that failed.
pub(crate) fn failed_result(error: impl Serialize) -> Bytes {
    Bytes::from(json!({ "__error__": error }).to_string())
}
