//! Reading what a run says: from its start, from an event on, or only its result.

use bytes::Bytes;
use serde_json::json;
use threadyard_core::{
    bus::{Closing, From, Received, Subscription},
    ids::{RunId, ThreadId},
    runs::{Run, RunError, RunStatus},
    stream::{EventId, StreamEvent, StreamMode},
};

use crate::{Engine, Result};

/// What a run says, as one reader sees it.
pub struct RunStream {
    subscription: Option<Box<dyn Subscription>>,
    /// Whether events carry their ids.
    pub with_ids: bool,
    /// Only events of these modes; all when empty.
    modes: Vec<StreamMode>,
}

impl RunStream {
    /// Waits for the next events, with the id of the first. `None` ends the stream. Events without an id are about the
    /// stream itself, and for every reader.
    pub async fn next(&mut self) -> Option<(Option<EventId>, Vec<StreamEvent>)> {
        match self.subscription.as_mut()?.next().await {
            Received::Events(first, events) => Some((Some(first), events)),
            Received::Lagged => {
                self.subscription = None;
                let message = "the reader fell so far behind that events are lost; the thread's state has what the run \
                    does, and a resumable stream can be joined behind the last id";
                let error = RunError { error: "StreamLagged".into(), message: message.into() };
                let event = StreamEvent { name: "error".into(), data: json!(error).to_string().into() };
                Some((None, vec![event]))
            }
            Received::Closed(_) => None,
        }
    }

    /// Whether the reader asked for events of this name.
    pub fn wants(&self, name: &str) -> bool {
        self.modes.is_empty() || self.modes.iter().any(|mode| mode.owns(name))
    }

    /// Waits for the end of the run.
    pub async fn closing(mut self) -> Closing {
        let Some(mut subscription) = self.subscription.take() else { return Closing::default() };
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
        let subscription = self.bus.subscribe(run.run_id, From::After(EventId::START));
        RunStream { subscription, with_ids: run.kwargs.resumable, modes: Vec::new() }
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
        let after = last_event_id.filter(|_| run.kwargs.resumable).and_then(EventId::parse);
        let from = after.map_or(From::Now, From::After);
        let subscription = self.follow(&run, from).await?;
        Ok(RunStream { subscription, with_ids: run.kwargs.resumable, modes })
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
        let subscription = self.follow(&run, From::Now).await?;
        let stream = RunStream { subscription, with_ids: false, modes: Vec::new() };
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
        self.bus.open(run.run_id, run.thread_id, run.kwargs.resumable);
        let subscription = self.bus.subscribe(run.run_id, from);
        // It may have ended before the stream was open, and then nobody else closes it.
        let now = self.storage.run_by_id(run.run_id).await?;
        if now.is_none_or(|run| run.status.is_terminal()) {
            self.bus.close(run.run_id, Closing::default());
        }
        Ok(subscription)
    }

    /// What is known of the result of a run that has ended: the thread's values as they are now.
    async fn stored_result(&self, thread_id: ThreadId, run_id: RunId) -> Result<Bytes> {
        let run = self.storage.run(thread_id, run_id).await?;
        if let Some((RunStatus::Error, Some(error))) = run.map(|run| (run.status, run.error)) {
            return Ok(Bytes::from(json!({ "__error__": error }).to_string()));
        }
        let values = self.storage.thread(thread_id).await?.and_then(|thread| thread.values.known());
        Ok(values
            .map_or_else(|| Bytes::from_static(b"{}"), |values| Bytes::from(String::from(Box::<str>::from(values)))))
    }
}
