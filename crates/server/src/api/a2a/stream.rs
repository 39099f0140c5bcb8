//! A task while it goes on, as its client hears of it: what the agent says so far, then what came of it.

use std::collections::VecDeque;

use axum::response::Response;
use futures_util::stream;
use serde_json::Value;
use threadyard_core::{
    agent_parts::{Message, Part, Role, Version, parts_of},
    agent_tasks::{Task, TaskId, TaskState},
    ids::AssistantId,
    runs::Run,
    stream::{EventId, StreamEvent},
};
use threadyard_engine::{Engine, RunStream};

use super::{
    super::{
        json_rpc::{self, RpcError},
        sse::{self, Said, Watchdog},
    },
    Asked,
};

/// One client's ear on a task.
pub(super) struct Talk {
    engine: Engine,
    assistant: AssistantId,
    version: Version,
    /// The request that everything here answers.
    id: Value,
    run: Run,
    /// What the run says; none when it has ended.
    stream: Option<RunStream>,
    /// What is to be said next.
    ready: VecDeque<Said>,
    /// What the agent is saying.
    saying: Message,
    /// What the client has heard already.
    heard: Option<EventId>,
}

impl Talk {
    /// Begins with the task as it is.
    pub(super) fn new(asked: &Asked<'_>, run: Run, stream: RunStream, task: &Task) -> Self {
        Self { stream: Some(stream), ..Self::over(asked, run, task) }
    }

    /// Goes on behind what the client has heard. What the agent says is told from its beginning, so all of it is needed.
    pub(super) fn behind(self, heard: Option<EventId>) -> Self {
        Self { heard, ..self }
    }

    /// Of a task that nothing happens to any more, or not before it is answered.
    pub(super) fn over(asked: &Asked<'_>, run: Run, task: &Task) -> Self {
        let mut begun = Self {
            engine: asked.engine.clone(),
            assistant: asked.assistant.assistant_id,
            version: asked.version,
            id: asked.call.id.clone(),
            run,
            stream: None,
            ready: VecDeque::new(),
            saying: Message { id: String::new(), role: Role::Agent, parts: Vec::new() },
            heard: None,
        };
        begun.say(Ok(task.told(asked.version)), None);
        if task.state.is_terminal() || task.state == TaskState::InputRequired {
            begun.say(Ok(task.status_update(asked.version)), None);
        }
        begun
    }

    pub(super) fn told(self) -> Response {
        // A client that leaves can come back.
        let watchdog = Watchdog::new(self.engine.clone(), self.run.thread_id, self.run.run_id, false);
        let said = stream::unfold(self, |mut talk| async move { talk.next().await.map(|said| (said, talk)) });
        sse::said(said, watchdog)
    }

    async fn next(&mut self) -> Option<Said> {
        loop {
            if let Some(said) = self.ready.pop_front() {
                return Some(said);
            }
            match self.stream.as_mut()?.next().await {
                Some((first, events)) => self.hear(first, &events),
                None => self.end().await,
            }
        }
    }

    fn say(&mut self, result: Result<Value, RpcError>, id: Option<EventId>) {
        self.ready.push_back(Said::of(&json_rpc::answer(&self.id, result)).behind(id));
    }

    /// Says again what the agent has said so far, if that grew.
    fn hear(&mut self, first: Option<EventId>, events: &[StreamEvent]) {
        let before = self.saying.clone();
        for event in events.iter().filter(|event| event.name.split('|').next() == Some("messages")) {
            self.take(event);
        }
        if self.saying == before {
            return;
        }
        let last = first.map(|first| EventId { seq: first.seq + events.len() as u64 - 1, ..first });
        if last.is_some_and(|last| self.heard.is_some_and(|heard| last <= heard)) {
            return;
        }
        let task = Task { note: Some(self.saying.clone()), at: self.engine.now(), ..Task::working(&self.run) };
        self.say(Ok(task.status_update(self.version)), last);
    }

    fn take(&mut self, event: &StreamEvent) {
        let Ok((chunk, _)) = serde_json::from_slice::<(Value, Value)>(&event.data) else { return };
        // Whole messages come with the result.
        if chunk["type"] != "AIMessageChunk" {
            return;
        }
        let parts = parts_of(&chunk["content"]);
        let text: String = parts.iter().filter_map(Part::text).collect();
        let id = chunk["id"].as_str().unwrap_or_default();
        if text.is_empty() {
            return;
        }
        match self.saying.parts.first_mut() {
            Some(Part::Text(said)) if self.saying.id == id => said.push_str(&text),
            _ => (self.saying.id, self.saying.parts) = (id.to_owned(), vec![Part::Text(text)]),
        }
    }

    /// The last words.
    async fn end(&mut self) {
        self.stream = None;
        match self.engine.agent_task(self.assistant, TaskId::of(&self.run)).await {
            Ok(found) => {
                for update in found.task.artifact_updates(self.version) {
                    self.say(Ok(update), None);
                }
                self.say(Ok(found.task.status_update(self.version)), None);
            }
            Err(error) => self.say(Err(error.into()), None),
        }
    }
}
