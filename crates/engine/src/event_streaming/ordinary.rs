//! Runs that others began, as readers of event streaming see them: what they stream, in the words of the protocol. They
//! have no place on the tape, and what they said is mostly not kept.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use threadyard_core::{
    event_streaming::{EventName, Lifecycle, answered, lifecycle},
    json::{Object, RawJson, RawObject, Value, raw},
    runs::{Run, RunError, RunStatus},
    stream::{EventId, StreamEvent},
    threads::{Thread, ThreadStatus},
    time::Timestamp,
};

use super::{
    TapeEvent,
    messages::{Messages, Said},
};

/// An ordinary run that is read.
pub(super) struct Ordinary {
    run: Run,
    begun: bool,
    messages: Messages,
    /// The interrupts that were told: values and updates both have them.
    asked: HashSet<String>,
}

#[derive(Deserialize)]
struct Interrupt {
    id: String,
    value: RawJson,
}

#[derive(Deserialize)]
struct Checkpoint {
    config: Config,
    parent_config: Option<Config>,
    metadata: Option<Object>,
}

#[derive(Deserialize)]
struct Config {
    configurable: Object,
}

impl Config {
    fn checkpoint_id(&self) -> Option<&Value> {
        self.configurable.get("checkpoint_id")
    }
}

impl Ordinary {
    pub(super) fn of(run: &Run) -> Self {
        Self { run: run.clone(), begun: false, messages: Messages::default(), asked: HashSet::new() }
    }

    /// What its events come to, of those that are wanted. They share the number of the last event on the tape.
    pub(super) fn events(
        &mut self,
        first: EventId,
        events: &[StreamEvent],
        wants: impl Fn(&EventName<'_>) -> bool,
        after: u64,
    ) -> Vec<TapeEvent> {
        let mut told = Vec::new();
        if !self.begun {
            self.begun = true;
            let at = self.run.created_at;
            told.extend(marked("start", vec![lifecycle(&self.run, Lifecycle::Running, None, at)]));
            told.extend(marked("answers", answered(&self.run, at).into_iter().collect()));
        }
        for (event, seq) in events.iter().zip(first.seq..) {
            told.extend(marked(&seq.to_string(), self.told(event)));
        }
        self.tape(told, wants, after)
    }

    /// What closes it, as far as its row and its thread tell.
    pub(super) fn last(
        &mut self,
        (left, thread): (Option<&Run>, Option<&Thread>),
        now: Timestamp,
        wants: impl Fn(&EventName<'_>) -> bool,
        after: u64,
    ) -> Vec<TapeEvent> {
        // The row of one that was undone is gone.
        let event = left.map_or(Lifecycle::Interrupted, |left| standing(left, thread));
        if !self.begun || matches!(event, Lifecycle::Started | Lifecycle::Running) {
            // It goes on elsewhere.
            return Vec::new();
        }
        let ends = self.messages.finish();
        let mut told = marked("ends", ends.iter().map(|said| self.message(said)).collect());
        let error = left.and_then(|left| left.error.as_ref()).filter(|_| event == Lifecycle::Failed);
        let error = error.and_then(|error| serde_json::from_str::<RunError>(error.get()).ok());
        let error = error.as_ref().map(|error| error.message.as_str());
        let end = lifecycle(&self.run, event, error, left.map_or(now, |left| left.updated_at));
        told.extend(marked("end", vec![end]));
        self.tape(told, wants, after)
    }

    fn tape(
        &self,
        told: Vec<(String, StreamEvent)>,
        wants: impl Fn(&EventName<'_>) -> bool,
        after: u64,
    ) -> Vec<TapeEvent> {
        let wanted = |event: &StreamEvent| wants(&EventName::of(&event.name));
        let tape = |(mark, event): (String, StreamEvent)| TapeEvent::of(self.run.run_id, &mark, after.max(1), &event);
        told.into_iter().filter(|(_, event)| wanted(event)).filter_map(tape).collect()
    }

    /// What one event comes to.
    fn told(&mut self, event: &StreamEvent) -> Vec<StreamEvent> {
        let name = EventName::of(&event.name);
        let data = &event.data[..];
        match name.method {
            "values" => self.values(&name, data),
            "updates" => self.updates(&name, data),
            "messages" => {
                let said = self.messages.take(&name.namespace, data);
                said.iter().map(|said| self.message(said)).collect()
            }
            "custom" => vec![self.event("custom", &name.namespace, &[br#"{"payload":"#, data, b"}"].concat(), None)],
            "tasks" => vec![self.event("tasks", &name.namespace, data, None)],
            "checkpoints" => self.checkpoint(&name, data).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn values(&mut self, name: &EventName<'_>, data: &[u8]) -> Vec<StreamEvent> {
        let Ok(mut values) = serde_json::from_slice::<RawObject>(data) else {
            // The state of a graph may be something else than an object.
            return vec![self.event("values", &name.namespace, data, None)];
        };
        let asked = values.shift_remove("__interrupt__");
        let mut told = vec![self.event("values", &name.namespace, &json(&values), None)];
        told.extend(self.requests(name, asked.as_ref()));
        told
    }

    fn updates(&mut self, name: &EventName<'_>, data: &[u8]) -> Vec<StreamEvent> {
        let mut nodes = serde_json::from_slice::<RawObject>(data).unwrap_or_default();
        let asked = nodes.shift_remove("__interrupt__");
        let mut told = Vec::new();
        for (node, values) in nodes {
            let update = json(&RawObject::from_iter([("node".into(), raw(&node)), ("values".into(), values)]));
            told.push(self.event("updates", &name.namespace, &update, Some(&node)));
        }
        told.extend(self.requests(name, asked.as_ref()));
        told
    }

    fn requests(&mut self, name: &EventName<'_>, asked: Option<&RawJson>) -> Vec<StreamEvent> {
        #[derive(Serialize)]
        struct Requested<'a> {
            interrupt_id: &'a str,
            payload: &'a RawJson,
            value: &'a RawJson,
        }
        let asked = asked.and_then(|asked| serde_json::from_str::<Vec<Interrupt>>(asked.get()).ok());
        let mut told = Vec::new();
        for Interrupt { id, value } in asked.unwrap_or_default() {
            if self.asked.insert(id.clone()) {
                // The protocol calls it `payload`; the Python SDK reads `value`.
                let data = json(&Requested { interrupt_id: &id, payload: &value, value: &value });
                told.push(self.event("input.requested", &name.namespace, &data, None));
            }
        }
        told
    }

    fn checkpoint(&self, name: &EventName<'_>, data: &[u8]) -> Option<StreamEvent> {
        let Checkpoint { config, parent_config, metadata } = serde_json::from_slice(data).ok()?;
        let mut shown = Object::new();
        shown.insert("id".into(), config.checkpoint_id()?.clone());
        if let Some(parent) = parent_config.as_ref().and_then(Config::checkpoint_id) {
            shown.insert("parent_id".into(), parent.clone());
        }
        for key in ["step", "source"] {
            shown.insert(key.into(), metadata.as_ref().and_then(|it| it.get(key)).cloned().unwrap_or_default());
        }
        Some(self.event("checkpoints", &name.namespace, &json(&shown), None))
    }

    fn message(&self, said: &Said) -> StreamEvent {
        self.event("messages", &said.namespace, &json(&said.data), said.node.as_deref())
    }

    fn event(
        &self,
        method: &str,
        namespace: &[impl AsRef<str> + Serialize],
        data: &[u8],
        node: Option<&str>,
    ) -> StreamEvent {
        let mut text = Vec::with_capacity(data.len() + 128);
        text.extend_from_slice(format!(r#"{{"type":"event","method":"{method}","params":{{"namespace":"#).as_bytes());
        text.extend_from_slice(&json(&namespace));
        text.extend_from_slice(format!(r#","timestamp":{},"#, self.run.updated_at.as_millis()).as_bytes());
        if let Some(node) = node {
            text.extend_from_slice(br#""node":"#);
            text.extend_from_slice(&json(&node));
            text.push(b',');
        }
        text.extend_from_slice(br#""data":"#);
        text.extend_from_slice(data);
        text.extend_from_slice(b"}}");
        let path: Vec<_> = std::iter::once(method).chain(namespace.iter().map(AsRef::as_ref)).collect();
        StreamEvent { name: path.join("|").into(), data: text.into() }
    }
}

/// Events that come of one, each with what tells it apart in its id.
fn marked(mark: &str, events: Vec<StreamEvent>) -> Vec<(String, StreamEvent)> {
    let marks = (0..).map(|place| if place == 0 { mark.to_owned() } else { format!("{mark}.{place}") });
    marks.zip(events).collect()
}

/// How a run stands, as far as its row and its thread tell.
pub(super) fn standing(run: &Run, thread: Option<&Thread>) -> Lifecycle {
    match run.status {
        RunStatus::Pending => Lifecycle::Started,
        RunStatus::Running => Lifecycle::Running,
        RunStatus::Success if thread.is_some_and(waits) => Lifecycle::Interrupted,
        RunStatus::Success => Lifecycle::Completed,
        RunStatus::Error | RunStatus::Timeout => Lifecycle::Failed,
        RunStatus::Interrupted => Lifecycle::Interrupted,
    }
}

fn waits(thread: &Thread) -> bool {
    thread.status == ThreadStatus::Interrupted
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
