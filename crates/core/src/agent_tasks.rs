//! Runs as other agents see them (A2A): tasks of a context, which is a thread.

use std::{fmt, str::FromStr};

use serde::Deserialize;
use serde_json::json;

use crate::{
    agent_parts::{Message, Part, Role, Version},
    ids::{RunId, ThreadId},
    json::{Object, RawJson, Value},
    runs::{Ending, Run, RunError, RunStatus},
    threads::ThreadStatus,
    time::Timestamp,
};

/// In the metadata of a run: the message that began its task.
pub const BEGUN_BY: &str = "a2a_message_id";
/// In the metadata of a run: the task that it goes on with.
pub const GOES_ON_WITH: &str = "a2a_task_id";
/// In the metadata of a thread: the task that nobody is to answer any more.
pub const CANCELED: &str = "a2a_canceled_task";
const CANCELED_NOTE: &str = "Task was canceled";

/// Names a task: by its context and the run that began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskId {
    /// The context.
    pub thread_id: ThreadId,
    /// The first of its runs.
    pub run_id: RunId,
}

impl TaskId {
    /// The task that a run belongs to. Anybody may write metadata, so that only a task of the run's own context counts.
    pub fn of(run: &Run) -> Self {
        let begun = run.metadata.get(GOES_ON_WITH).and_then(Value::as_str).and_then(|id| id.parse::<Self>().ok());
        begun
            .filter(|task| task.thread_id == run.thread_id)
            .unwrap_or(Self { thread_id: run.thread_id, run_id: run.run_id })
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.thread_id, self.run_id)
    }
}

impl FromStr for TaskId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        let (thread, run) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self { thread_id: thread.parse()?, run_id: run.parse()? })
    }
}

/// Whether another agent asked for a run with these metadata.
pub fn is_of_a_task(metadata: &Object) -> bool {
    metadata.contains_key(BEGUN_BY)
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub enum TaskState {
    Submitted,
    Working,
    InputRequired,
    Completed,
    Canceled,
    Failed,
}

impl TaskState {
    const ALL: [Self; 6] =
        [Self::Submitted, Self::Working, Self::InputRequired, Self::Completed, Self::Canceled, Self::Failed];

    /// The word of a version.
    pub fn as_str(self, version: Version) -> &'static str {
        let (older, newer) = match self {
            Self::Submitted => ("submitted", "TASK_STATE_SUBMITTED"),
            Self::Working => ("working", "TASK_STATE_WORKING"),
            Self::InputRequired => ("input-required", "TASK_STATE_INPUT_REQUIRED"),
            Self::Completed => ("completed", "TASK_STATE_COMPLETED"),
            Self::Canceled => ("canceled", "TASK_STATE_CANCELED"),
            Self::Failed => ("failed", "TASK_STATE_FAILED"),
        };
        if version == Version::V03 { older } else { newer }
    }

    /// Reads the word of either version.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| [Version::V03, Version::V1].iter().any(|it| state.as_str(*it) == text))
    }

    /// Whether nothing changes any more.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Canceled | Self::Failed)
    }
}

/// A question that a graph waits to have answered.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Interrupt {
    /// Its id, by which the answer can name it.
    pub id: String,
    /// What is asked.
    #[serde(default)]
    pub value: Value,
}

/// The questions among what a thread keeps of them, by task of the graph.
pub fn interrupts_of(kept: &RawJson) -> Vec<Interrupt> {
    let by_task: indexmap::IndexMap<String, Vec<Interrupt>> = serde_json::from_str(kept.get()).unwrap_or_default();
    by_task.into_values().flatten().collect()
}

/// What the last run of a task left.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// The values of the state.
    pub values: Value,
    /// The questions that wait for an answer.
    pub interrupts: Vec<Interrupt>,
    /// Whether nodes are left to run.
    pub waits: bool,
    /// What went wrong.
    pub error: Option<RunError>,
}

impl Left {
    /// What an ending leaves.
    pub fn by(ending: &Ending) -> Self {
        let thread = ending.thread.as_ref();
        Self {
            values: ending.values.as_ref().map(values).unwrap_or_default(),
            interrupts: thread.map(|thread| interrupts_of(&thread.outcome.interrupts)).unwrap_or_default(),
            waits: thread.is_some_and(|thread| thread.status == ThreadStatus::Interrupted),
            error: ending.error.clone(),
        }
    }
}

/// The values of a state, as far as they can be understood.
pub fn values(values: &RawJson) -> Value {
    serde_json::from_str(values.get()).unwrap_or_default()
}

/// What another agent asked for.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Where it stands.
    pub state: TaskState,
    /// Since when.
    pub at: Timestamp,
    /// What the agent says about that.
    pub note: Option<Message>,
    /// What was said in its context until now.
    pub history: Vec<Message>,
    /// Where in there its own messages begin.
    pub begins: usize,
    /// What came of it.
    pub artifacts: Vec<Artifact>,
    /// The questions that wait for an answer.
    pub interrupts: Vec<Interrupt>,
}

/// Something that came of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub name: &'static str,
    /// What it is.
    pub description: String,
    /// What it consists of.
    pub parts: Vec<Part>,
}

impl Task {
    /// A task whose newest run has not ended. Of the history, only what it was asked is known.
    pub fn open(run: &Run) -> Self {
        let asked = run.kwargs.input.as_ref().map(values).unwrap_or_default();
        let state = if run.status == RunStatus::Pending { TaskState::Submitted } else { TaskState::Working };
        Self::at(run, state, &asked)
    }

    /// A task whose newest run has ended like this.
    pub fn ended(run: &Run, status: RunStatus, left: Left) -> Self {
        let state = match status {
            RunStatus::Pending | RunStatus::Running => return Self::open(run),
            RunStatus::Success if left.waits => TaskState::InputRequired,
            RunStatus::Success => TaskState::Completed,
            RunStatus::Error | RunStatus::Timeout => TaskState::Failed,
            RunStatus::Interrupted => TaskState::Canceled,
        };
        let mut task = Self::at(run, state, &left.values);
        match state {
            TaskState::Completed => task.artifacts.extend(task.response(run, &left.values)),
            TaskState::InputRequired => {
                task.say(left.interrupts.iter().map(Interrupt::question).collect());
                task.artifacts = left.interrupts.iter().map(Interrupt::artifact).collect();
                task.interrupts = left.interrupts;
            }
            // Upstream: the class alone, since a message may hold what is not for clients.
            TaskState::Failed => {
                let class = left.error.map_or_else(|| "Error".to_owned(), |error| error.error);
                task.say(vec![Part::Text(format!("Error executing assistant: {class}"))]);
            }
            _ => task.say(vec![Part::Text(CANCELED_NOTE.into())]),
        }
        task
    }

    /// A task that goes on, without what was said.
    pub fn working(run: &Run) -> Self {
        Self::at(run, TaskState::Working, &Value::Null)
    }

    /// The same task, which nobody is to answer any more.
    #[must_use]
    pub fn canceled(self) -> Self {
        let mut task = Self { state: TaskState::Canceled, artifacts: Vec::new(), interrupts: Vec::new(), ..self };
        task.say(vec![Part::Text(CANCELED_NOTE.into())]);
        task
    }

    fn say(&mut self, parts: Vec<Part>) {
        let id = format!("{}-{}", self.id.run_id, self.state.as_str(Version::V03));
        self.note = (!parts.is_empty()).then_some(Message { id, role: Role::Agent, parts });
    }

    fn at(run: &Run, state: TaskState, values: &Value) -> Self {
        let history: Vec<_> =
            values["messages"].as_array().into_iter().flatten().filter_map(Message::of_state).collect();
        let begun_by = run.metadata.get(BEGUN_BY).and_then(Value::as_str);
        let begins = history.iter().rposition(|message| Some(message.id.as_str()) == begun_by).unwrap_or(0);
        let (id, at) = (TaskId::of(run), run.updated_at);
        Self { id, state, at, note: None, history, begins, artifacts: Vec::new(), interrupts: Vec::new() }
    }

    /// What the agent says at last; where it says nothing, what else the graph's output has.
    fn response(&self, run: &Run, values: &Value) -> Option<Artifact> {
        let own = &self.history[self.begins..];
        let said = own.iter().rev().find(|message| message.role == Role::Agent).map(|said| said.parts.clone());
        let parts = said.or_else(|| {
            let mut rest: Object = values.as_object()?.clone();
            rest.shift_remove("messages");
            (!rest.is_empty()).then(|| vec![Part::Data(rest.into())])
        })?;
        let description = format!("Response from assistant {}", run.assistant_id);
        Some(Artifact { id: run.run_id.to_string(), name: "Assistant Response", description, parts })
    }
}

impl Interrupt {
    fn question(&self) -> Part {
        match &self.value {
            Value::String(question) => Part::Text(question.clone()),
            _ => self.data(),
        }
    }

    fn data(&self) -> Part {
        Part::Data(json!({ "id": self.id, "value": self.value }))
    }

    fn artifact(&self) -> Artifact {
        let description = "Agent requires input to continue".to_owned();
        Artifact { id: self.id.clone(), name: "Interrupt", description, parts: vec![self.data()] }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{json::raw, testkit::new_run};

    fn asked(metadata: &[(&str, &str)]) -> Run {
        let mut run = new_run(RunId(Uuid::nil()), ThreadId(Uuid::nil()), Timestamp(0)).run;
        run.metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        run
    }

    fn said(kind: &str, text: &str, id: &str) -> Value {
        json!({ "type": kind, "content": text, "id": id })
    }

    #[test]
    fn a_run_goes_on_with_the_task_that_it_names() {
        let first = TaskId { thread_id: ThreadId(Uuid::nil()), run_id: RunId(Uuid::max()) };
        assert_eq!(first.to_string().parse(), Ok(first));
        assert!(["", "x", "00000000-0000-0000-0000-000000000000"].iter().all(|text| text.parse::<TaskId>().is_err()));
        assert_eq!(TaskId::of(&asked(&[(GOES_ON_WITH, &first.to_string())])), first);
        assert_eq!(TaskId::of(&asked(&[(BEGUN_BY, "m")])).run_id, RunId(Uuid::nil()));
    }

    #[test]
    fn what_the_agent_said_last_of_the_task_came_of_it() {
        let messages = json!([said("human", "a", "m1"), said("ai", "b", "x"), said("human", "c", "m2")]);
        let task = |values: Value| {
            Task::ended(&asked(&[(BEGUN_BY, "m2")]), RunStatus::Success, Left { values, ..Left::default() })
        };
        let silent = task(json!({ "messages": messages, "n": 1 }));
        assert_eq!((silent.begins, &silent.artifacts[0].parts), (2, &vec![Part::Data(json!({ "n": 1 }))]));
        assert!(task(json!({ "messages": messages })).artifacts.is_empty());
        let mut messages = messages;
        messages.as_array_mut().unwrap().push(said("ai", "d", "y"));
        assert_eq!(task(json!({ "messages": messages })).artifacts[0].parts, [Part::Text("d".into())]);
    }

    #[test]
    fn only_a_run_that_waits_requires_input() {
        let interrupts = interrupts_of(&raw(&json!({ "t": [{ "id": "i", "value": "who?" }] })));
        let left = Left { interrupts, waits: true, ..Left::default() };
        let run = asked(&[(BEGUN_BY, "m")]);
        let task = Task::ended(&run, RunStatus::Success, left.clone());
        assert_eq!(
            (task.state, &task.note.as_ref().unwrap().parts[0]),
            (TaskState::InputRequired, &Part::Text("who?".into()))
        );
        assert_eq!(task.canceled().state, TaskState::Canceled);
        for (status, state) in [
            (RunStatus::Timeout, TaskState::Failed),
            (RunStatus::Interrupted, TaskState::Canceled),
            (RunStatus::Pending, TaskState::Submitted),
        ] {
            assert_eq!(Task::ended(&run, status, left.clone()).state, state);
        }
    }

    #[test]
    fn states_are_read_as_either_version_writes_them() {
        for state in TaskState::ALL {
            assert_eq!(TaskState::parse(state.as_str(Version::V03)), Some(state));
            assert_eq!(TaskState::parse(state.as_str(Version::V1)), Some(state));
        }
        assert_eq!(TaskState::parse("bogus"), None);
    }
}
