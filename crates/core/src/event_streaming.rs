//! Event streaming (protocol v2): the events of a thread's runs as one tape, and what a reader wants of it.
//!
//! The worker makes whole events; servers add ids and numbers behind the beginning that all of them share.

use serde::{Deserialize, Serialize};

use crate::{
    ids::RunId,
    json::RawObject,
    runs::{EndStatus, Ending, Run},
    stream::StreamEvent,
    threads::ThreadStatus,
    time::Timestamp,
};

/// The key under `configurable` of a run that was asked for by the protocol. Its stream holds protocol events.
pub const MARKER: &str = "__event_streaming_v2";

/// What each protocol event begins with.
pub const BEGINNING: &[u8] = br#"{"type":"event","#;

/// A run's places on the tape of its thread are a block of this many, so that they stay the same whatever becomes of
/// other runs. Numbers of events stay below 2^53, which is where JavaScript's end.
pub const BLOCK: u64 = 1 << 32;

/// A run, or a graph within it, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// A graph within it begins, or the run is to begin.
    Started,
    /// Its first attempt begins.
    Running,
    /// It came to its end.
    Completed,
    /// It raised, or could not be executed.
    Failed,
    /// It waits for somebody, or was stopped.
    Interrupted,
}

/// That the run as a whole begins or ends.
pub fn lifecycle(run: &Run, event: Lifecycle, error: Option<&str>, at: Timestamp) -> StreamEvent {
    #[derive(Serialize)]
    struct Data<'a> {
        event: Lifecycle,
        graph_name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    }
    of_root("lifecycle", &Data { event, graph_name: &run.graph_id, error }, at)
}

/// That a run begins which answers interrupts by their ids: whoever shows them may stop asking.
pub fn answered(run: &Run, at: Timestamp) -> Option<StreamEvent> {
    #[derive(Serialize)]
    struct Data {
        interrupt_ids: Vec<String>,
    }
    Some(of_root("input.answered", &Data { interrupt_ids: answered_ids(run)? }, at))
}

/// The interrupts that a run answers, where it names them.
pub fn answered_ids(run: &Run) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Command {
        resume: Option<RawObject>,
    }
    let command: Command = serde_json::from_str(run.kwargs.command.as_ref()?.get()).ok()?;
    let answers =
        command.resume.filter(|answers| !answers.is_empty() && answers.keys().all(|key| is_interrupt(key)))?;
    Some(answers.into_keys().collect())
}

/// Whether a text is the id of an interrupt, as LangGraph tells an answer by id from one that happens to be an object.
fn is_interrupt(key: &str) -> bool {
    key.len() == 32 && key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// An event of the whole run.
fn of_root(method: &str, data: &impl Serialize, at: Timestamp) -> StreamEvent {
    #[derive(Serialize)]
    struct Event<'a, D> {
        r#type: &'a str,
        method: &'a str,
        params: Params<'a, D>,
    }
    #[derive(Serialize)]
    struct Params<'a, D> {
        namespace: [&'a str; 0],
        timestamp: i64,
        data: D,
    }
    let params = Params { namespace: [], timestamp: at.as_millis(), data };
    StreamEvent::of(method, &Event { r#type: "event", method, params })
}

/// How the end of a run looks from outside.
pub fn lifecycle_of(run: &Run, ending: &Ending) -> StreamEvent {
    let waits = ending.thread.as_ref().is_some_and(|thread| thread.status == ThreadStatus::Interrupted);
    let event = match ending.status {
        EndStatus::Success if waits => Lifecycle::Interrupted,
        EndStatus::Success => Lifecycle::Completed,
        EndStatus::Error | EndStatus::Timeout => Lifecycle::Failed,
        EndStatus::Interrupted | EndStatus::Rollback => Lifecycle::Interrupted,
    };
    let error = ending.error.as_ref().filter(|_| event == Lifecycle::Failed);
    lifecycle(run, event, error.map(|error| error.message.as_str()), ending.at)
}

/// What an event's name says: `custom|child:1||progress` is named `progress` and comes from a subgraph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventName<'a> {
    /// What kind of event it is.
    pub method: &'a str,
    /// The subgraph it comes from.
    pub namespace: Vec<&'a str>,
    /// What graph code calls a custom event.
    pub custom: Option<&'a str>,
}

impl<'a> EventName<'a> {
    /// Takes a name apart.
    pub fn of(name: &'a str) -> Self {
        let (path, custom) = name.split_once("||").map_or((name, None), |(path, custom)| (path, Some(custom)));
        let mut segments = path.split('|');
        Self { method: segments.next().unwrap_or_default(), namespace: segments.collect(), custom }
    }
}

/// The id of an event. Clients look for the run of a lifecycle in its id, and only where it begins like this.
pub fn event_id(method: &str, run: RunId, place: &str) -> String {
    let of_run = if method == "lifecycle" { "synth:" } else { "" };
    format!("{of_run}{run}:{place}")
}

/// The number in an event's id, or in what is only a number.
pub fn number_of(id: &str) -> Option<u64> {
    let id = id.strip_prefix("synth:").unwrap_or(id);
    match id.split_once(':') {
        Some((run, number)) => run.parse::<RunId>().ok().and_then(|_| number.parse().ok()),
        None => id.parse().ok(),
    }
}

/// Which events a reader wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// The channels, of those that exist.
    pub channels: Vec<String>,
    /// Only of these subgraphs and what is below them; all when empty.
    pub namespaces: Vec<Vec<String>>,
    /// How far below.
    pub depth: Option<usize>,
}

impl EventFilter {
    /// Whether a channel of this name exists.
    pub fn knows(channel: &str) -> bool {
        let fixed = ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"];
        fixed.contains(&channel) || channel.strip_prefix("custom:").is_some_and(|name| !name.is_empty())
    }

    /// Whether an event of this name is wanted.
    pub fn wants(&self, name: &EventName<'_>) -> bool {
        self.channels.iter().any(|channel| is_of(name, channel)) && self.reaches(&name.namespace)
    }

    fn reaches(&self, namespace: &[&str]) -> bool {
        let below = |prefix: &Vec<String>| {
            let near = self.depth.is_none_or(|depth| namespace.len() <= prefix.len().saturating_add(depth));
            near && namespace.len() >= prefix.len() && prefix.iter().zip(namespace).all(|(a, b)| fits(a, b))
        };
        // A depth alone counts from the root, as it does with `[[]]`.
        let everywhere = || self.depth.is_none_or(|depth| namespace.len() <= depth);
        if self.namespaces.is_empty() { everywhere() } else { self.namespaces.iter().any(below) }
    }
}

fn is_of(name: &EventName<'_>, channel: &str) -> bool {
    match name.method {
        "input.requested" | "input.answered" => channel == "input",
        "custom" => {
            channel == "custom" || name.custom.is_some_and(|custom| channel.strip_prefix("custom:") == Some(custom))
        }
        method => channel == method,
    }
}

/// Whether a wanted segment fits one that there is: without a task's id it fits all tasks of the node.
fn fits(wanted: &str, segment: &str) -> bool {
    wanted == segment || !wanted.contains(':') && segment.split(':').next() == Some(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{ids::ThreadId, json::raw, testkit::new_run};

    fn wants(channels: &[&str], namespaces: &[&[&str]], depth: Option<usize>, name: &str) -> bool {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let namespaces = namespaces.iter().map(|prefix| owned(prefix)).collect();
        EventFilter { channels: owned(channels), namespaces, depth }.wants(&EventName::of(name))
    }

    #[test]
    fn channels_own_their_events() {
        assert!(wants(&["input"], &[], None, "input.requested|child:1"));
        assert!(wants(&["custom"], &[], None, "custom||progress"));
        assert!(wants(&["custom:progress"], &[], None, "custom|child:1||progress"));
        assert!(!wants(&["custom:progress"], &[], None, "custom"));
        assert!(!wants(&["custom:progress"], &[], None, "custom||other"));
        assert!(!wants(&["values", "custom:metadata"], &[], None, "metadata"));
        assert!(wants(&["input"], &[], None, "input.answered") && !wants(&["values"], &[], None, "input.answered"));
        assert!(EventFilter::knows("custom:x") && !EventFilter::knows("custom:") && !EventFilter::knows("metadata"));
    }

    #[test]
    fn the_number_of_an_event_is_found_in_its_id() {
        let run = RunId(uuid::Uuid::from_u128(7));
        for method in ["lifecycle", "values"] {
            assert_eq!(number_of(&event_id(method, run, "12")), Some(12), "{method}");
        }
        assert_eq!(event_id("lifecycle", run, "1").split(':').nth(1), Some(run.to_string().as_str()));
        assert_eq!(number_of("12"), Some(12));
        for wrong in ["", "x", "x:1", "synth:1:1", &event_id("values", run, "end")] {
            assert_eq!(number_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn answers_are_told_when_they_name_their_interrupts() {
        let id = "0123456789abcdef0123456789abcdef";
        let answers = |resume: serde_json::Value| {
            let mut run = new_run(RunId(uuid::Uuid::nil()), ThreadId(uuid::Uuid::nil()), Timestamp(0)).run;
            run.kwargs.command = Some(raw(&json!({ "resume": resume })));
            answered(&run, Timestamp(7_000))
        };
        let told = answers(json!({ id: true })).unwrap();
        let said: serde_json::Value = serde_json::from_slice(&told.data).unwrap();
        assert!(told.data.starts_with(BEGINNING) && &*told.name == "input.answered");
        assert_eq!(said["params"], json!({ "namespace": [], "timestamp": 7, "data": { "interrupt_ids": [id] } }));
        for by_value in [json!({}), json!({ "approve": true }), json!({ id: 1, "x": 1 }), json!([id]), json!(null)] {
            assert!(answers(by_value.clone()).is_none(), "{by_value}");
        }
    }

    #[test]
    fn namespaces_fit_by_prefix_and_without_the_ids_of_tasks() {
        let deep = "values|child:1|inner:2";
        assert!(wants(&["values"], &[&["child"]], None, deep));
        assert!(wants(&["values"], &[&["child:1", "inner"]], None, deep));
        assert!(wants(&["values"], &[&["other"], &[]], None, deep));
        assert!(!wants(&["values"], &[&["child:2"]], None, deep));
        assert!(!wants(&["values"], &[&["chil"]], None, deep));
        assert!(!wants(&["values"], &[&["child", "inner", "more"]], None, deep));
    }

    #[test]
    fn depth_counts_from_the_prefix() {
        let deep = "values|child:1|inner:2";
        assert!(wants(&["values"], &[&["child"]], Some(1), deep));
        assert!(!wants(&["values"], &[&["child"]], Some(0), deep));
        assert!(!wants(&["values"], &[&[]], Some(1), deep));
        assert!(!wants(&["values"], &[], Some(1), deep) && wants(&["values"], &[], Some(2), deep));
    }
}
