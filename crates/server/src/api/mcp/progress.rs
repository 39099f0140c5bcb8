//! Progress of a tool, for a client that asks for it: each step of its graph, and in the end the answer.

use std::collections::VecDeque;

use axum::response::Response;
use futures_util::stream;
use serde_json::{Value, json};
use threadyard_core::json::RawObject;
use threadyard_engine::{Engine, RunStream, StartedRun};

use super::{
    super::sse::{self, Said, Watchdog},
    tools::answered,
    versions::Manner,
};

/// A run, on the way to the client that called it as a tool.
pub(super) struct Telling {
    engine: Engine,
    run: threadyard_core::runs::Run,
    /// None when everything was said.
    stream: Option<RunStream>,
    id: Value,
    token: Value,
    manner: Manner,
    /// How many steps there were.
    steps: u64,
    /// What is to be said of them.
    notices: VecDeque<Said>,
}

impl Telling {
    pub(super) fn new(engine: Engine, started: StartedRun, (id, token): (Value, Value), manner: Manner) -> Self {
        let (run, stream) = (started.run, Some(started.stream));
        Self { engine, run, stream, id, token, manner, steps: 0, notices: VecDeque::new() }
    }

    async fn next(&mut self) -> Option<Said> {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Some(notice);
            }
            let Some((_, events)) = self.stream.as_mut()?.next().await else { break };
            for event in events.iter().filter(|event| &*event.name == "updates") {
                let nodes = serde_json::from_slice::<RawObject>(&event.data).unwrap_or_default();
                nodes.into_keys().for_each(|node| self.notice(&node));
            }
        }
        let stream = self.stream.take()?;
        let result = self.engine.wait_for(self.run.thread_id, self.run.run_id, stream).await;
        Some(Said::of(&answered(&self.id, result, self.manner)))
    }

    fn notice(&mut self, node: &str) {
        self.steps += 1;
        let params = json!({ "progressToken": self.token, "progress": self.steps, "message": node });
        let notice = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
        self.notices.push_back(Said::of(&notice));
    }
}

pub(super) fn told(telling: Telling, watchdog: Watchdog) -> Response {
    let said = stream::unfold(telling, |mut telling| async move { telling.next().await.map(|said| (said, telling)) });
    sse::said(said, watchdog)
}
