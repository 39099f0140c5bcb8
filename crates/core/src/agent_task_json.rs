//! Tasks of agents as the versions of their protocol write them.

use serde_json::json;

use crate::{
    agent_parts::{Message, Version},
    agent_tasks::{Artifact, Task, TaskState},
    json::Value,
};

/// How much of a task is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telling {
    /// In which version.
    pub version: Version,
    /// Only the last messages.
    pub history_length: Option<usize>,
    /// Only messages of the task itself.
    pub own_history: bool,
    /// Also what came of it.
    pub artifacts: bool,
}

impl Telling {
    /// Everything.
    pub fn all(version: Version) -> Self {
        Self { version, history_length: None, own_history: false, artifacts: true }
    }
}

impl Task {
    /// The task as a version writes it.
    pub fn render(&self, telling: Telling) -> Value {
        let version = telling.version;
        let mut task =
            json!({ "id": self.id.to_string(), "contextId": self.id.thread_id, "status": self.status(version) });
        if version == Version::V03 {
            task["kind"] = "task".into();
        }
        if telling.history_length != Some(0) {
            let from = if telling.own_history { self.begins } else { 0 };
            let from = telling.history_length.map_or(from, |last| from.max(self.history.len().saturating_sub(last)));
            let message = |(place, message): (usize, &Message)| self.belonging(message, place >= self.begins, version);
            task["history"] = self.history.iter().enumerate().skip(from).map(message).collect();
        }
        if telling.artifacts && !self.artifacts.is_empty() {
            task["artifacts"] = self.artifacts.iter().map(|artifact| artifact.render(version)).collect();
        }
        task
    }

    fn belonging(&self, message: &Message, own: bool, version: Version) -> Value {
        let mut message = message.render(version);
        message["contextId"] = self.id.thread_id.to_string().into();
        if own {
            message["taskId"] = self.id.to_string().into();
        }
        message
    }

    fn status(&self, version: Version) -> Value {
        let mut status = json!({ "state": self.state.as_str(version), "timestamp": self.at });
        if let Some(note) = &self.note {
            status["message"] = self.belonging(note, true, version);
        }
        status
    }

    /// The whole task, as the first word of a stream.
    pub fn told(&self, version: Version) -> Value {
        let task = self.render(Telling::all(version));
        if version == Version::V03 { task } else { json!({ "task": task }) }
    }

    /// Where the task stands, as a word of a stream.
    pub fn status_update(&self, version: Version) -> Value {
        let mut update =
            json!({ "taskId": self.id.to_string(), "contextId": self.id.thread_id, "status": self.status(version) });
        if version == Version::V1 {
            return json!({ "statusUpdate": update });
        }
        update["kind"] = "status-update".into();
        update["final"] = (self.state.is_terminal() || self.state == TaskState::InputRequired).into();
        update
    }

    /// What came of the task, as words of a stream.
    pub fn artifact_updates(&self, version: Version) -> Vec<Value> {
        let update = |artifact: &Artifact| {
            let mut update = json!({
                "taskId": self.id.to_string(), "contextId": self.id.thread_id,
                "artifact": artifact.render(version), "append": false, "lastChunk": true,
            });
            if version == Version::V1 {
                return json!({ "artifactUpdate": update });
            }
            update["kind"] = "artifact-update".into();
            update
        };
        self.artifacts.iter().map(update).collect()
    }
}

impl Artifact {
    fn render(&self, version: Version) -> Value {
        let parts: Vec<_> = self.parts.iter().map(|part| part.render(version)).collect();
        json!({ "artifactId": self.id, "name": self.name, "description": self.description, "parts": parts })
    }
}
