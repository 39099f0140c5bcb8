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
    /// Waits for the next events. `None` ends the stream.
    pub async fn next(&mut self) -> Option<(EventId, Vec<StreamEvent>)> {
        match self.subscription.as_mut()?.next().await {
            Received::Events(first, events) => Some((first, events)),
            Received::Lagged => {
                self.subscription = None;
                let message = "the reader fell so far behind that events are lost; the thread's state has what the run \
                    does, and a resumable stream can be joined behind the last id";
                let error = RunError { error: "StreamLagged".into(), message: message.into() };
                let event = StreamEvent { name: "error".into(), data: json!(error).to_string().into() };
                Some((EventId::START, vec![event]))
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
        let subscription = self.bus.subscribe(run_id, from);
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
        // Subscribed before the row is read, so that the end is not missed.
        let subscription = self.bus.subscribe(run_id, From::Now);
        let run = self.run(thread_id, run_id).await?;
        if !run.status.is_terminal() {
            let stream = RunStream { subscription, with_ids: false, modes: Vec::new() };
            if let Some(result) = stream.closing().await.result {
                return Ok(result);
            }
        }
        self.stored_result(thread_id, run_id).await
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
