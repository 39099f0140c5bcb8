//! The contract of whatever executes graphs: processes of the user's language, or a script in tests.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    checkpoints::{CheckpointTuple, Writer},
    ids::{AssistantId, RunId, ThreadId},
    items::ToEmbed,
    json::{Object, RawJson},
    runs::{Durability, Lease, PauseAt},
    stream::{StreamEvent, StreamMode},
    workers::Workers,
};

/// Executes the user's graphs.
#[async_trait]
pub trait GraphRuntime: Send + Sync {
    /// The graphs of the project, in the order of its configuration.
    fn graphs(&self) -> Vec<GraphInfo>;
    /// Names the user's code as it is now: state that was computed under another revision may be stale.
    fn revision(&self) -> String;
    /// How many runs may be executed at once.
    fn slots(&self) -> u32;
    /// How the processes stand that execute them.
    fn workers(&self) -> Workers;
    /// Begins a run. Its checkpoints are written under its lease.
    async fn start(&self, job: RunJob) -> Result<Box<dyn RunSession>, RuntimeError>;
    /// Asks a graph something outside any run.
    async fn call(&self, call: GraphCall) -> Result<RawJson, RuntimeError>;
    /// Makes vectors of texts with the function or model that the project names.
    async fn embed(&self, texts: ToEmbed) -> Result<Vec<Vec<f32>>, RuntimeError>;
    /// Stops everything; runs that go on are cancelled after `grace`.
    async fn shutdown(&self, grace: std::time::Duration);
}

/// One run being executed.
#[async_trait]
pub trait RunSession: Send {
    /// Waits for what happens next. Nothing comes after `Ended` and `Lost`.
    async fn next(&mut self) -> SessionEvent;
    /// Asks the run to stop; it then ends as cancelled.
    fn cancel(&self, reason: StopReason);
    /// Ends what executes the run, which does not stop; it then is lost. Other runs there may have some time to end.
    fn abandon(&self);
}

/// What a run does.
#[derive(Debug)]
pub enum SessionEvent {
    /// It says something.
    Events(Vec<StreamEvent>),
    /// It came to an end, and every checkpoint it wrote has committed.
    Ended(RunEnd),
    /// The process that ran it is gone.
    Lost(RuntimeError),
}

/// Why a run is stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    /// Somebody asked, and wants the work kept.
    Interrupt,
    /// Somebody asked, and wants the work undone.
    Rollback,
    /// The server stops; another attempt goes on.
    Drain,
    /// It took too long.
    Timeout,
    /// What it did could not be stored.
    Storage,
}

/// A language that graphs are written in. What one has written of a thread's state, another one can't read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Language {
    /// Python.
    Python,
    /// TypeScript and JavaScript, which Node executes.
    Node,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Python => "Python",
            Self::Node => "JavaScript",
        })
    }
}

/// A graph of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphInfo {
    /// Its id in the project's configuration.
    pub id: String,
    /// The language that it is written in.
    pub language: Language,
    /// What it is for, if the configuration says so.
    pub description: Option<String>,
    /// Why it can't be used, if it could not be loaded.
    pub failure: Option<GraphError>,
}

/// A run to be executed.
#[derive(Clone, Debug)]
pub struct RunJob {
    /// The right to write for it.
    pub lease: Lease,
    /// The thread.
    pub thread_id: ThreadId,
    /// The assistant.
    pub assistant_id: AssistantId,
    /// The graph.
    pub graph_id: String,
    /// Counts attempts, from 1.
    pub attempt: u32,
    /// The input, or none to continue from the state.
    pub input: Option<RawJson>,
    /// Resume, update and goto.
    pub command: Option<RawJson>,
    /// The complete RunnableConfig.
    pub config: Object,
    /// The runtime context.
    pub context: Object,
    /// The events that are wanted.
    pub modes: Vec<StreamMode>,
    /// Whether events of subgraphs are wanted.
    pub subgraphs: bool,
    /// When checkpoints are written.
    pub durability: Durability,
    /// Pause before these nodes.
    pub interrupt_before: Option<PauseAt>,
    /// Pause after these nodes.
    pub interrupt_after: Option<PauseAt>,
    /// The newest checkpoint of the thread.
    pub head: Option<CheckpointTuple>,
    /// Whether an earlier attempt left a checkpoint to go on from.
    pub resume: bool,
    /// Whether no other run may be where it is executed, since it may be what kills workers.
    pub alone: bool,
}

impl RunJob {
    /// The run.
    pub fn run_id(&self) -> RunId {
        self.lease.run_id
    }

    /// Under which right its checkpoints are written.
    pub fn writer(&self) -> Writer {
        Writer::Run(self.lease)
    }
}

/// How an execution ended.
#[derive(Clone, Debug)]
pub struct RunEnd {
    /// How.
    pub status: RunEndStatus,
    /// What `wait` answers when it is not the values.
    pub result: Option<RawJson>,
    /// The thread's values.
    pub values: Option<RawJson>,
    /// The thread's newest `ThreadState`.
    pub state: Option<RawJson>,
    /// Open interrupts by task.
    pub interrupts: Option<RawJson>,
    /// Whether nodes are left to run.
    pub has_next: bool,
    /// What the graph raised.
    pub error: Option<GraphError>,
}

/// The ways an execution ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunEndStatus {
    /// The graph came to its end or paused.
    Success,
    /// The graph raised.
    Error,
    /// It was stopped from outside.
    Cancelled,
}

/// A failure of the user's code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphError {
    /// The class of the exception.
    pub error: String,
    /// What it says.
    pub message: String,
    /// Where it was raised; for the log, and for errors of loading.
    #[serde(default)]
    pub traceback: Option<String>,
}

/// A question to a graph.
#[derive(Clone, Debug)]
pub struct GraphCall {
    /// What is asked.
    pub operation: CallOperation,
    /// The graph.
    pub graph_id: String,
    /// JSON, as the worker protocol describes it for the operation.
    pub args: RawJson,
}

/// What a graph can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "described in docs/worker-protocol.md")]
pub enum CallOperation {
    StateGet,
    StateHistory,
    StateUpdate,
    StateReplay,
    Schemas,
    Draw,
    Subgraphs,
}

/// Why a graph could not be asked or executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The project has no such graph.
    #[error("graph `{0}` is not in the project")]
    UnknownGraph(String),
    /// The graph could not be loaded.
    #[error("graph `{graph}` could not be loaded: {}: {}", error.error, error.message)]
    BrokenGraph {
        /// The graph.
        graph: String,
        /// What loading it raised.
        error: GraphError,
    },
    /// The process that held the graph ended.
    #[error("the worker process ended: {0}")]
    WorkerLost(String),
    /// The process that held the graph ended while several runs were on it.
    #[error("the worker process, which several runs shared, ended: {0}")]
    SharedWorkerLost(String),
    /// The process that held the graph was ended, since another run on it did not stop.
    #[error("the worker process was ended, since another of its runs did not stop when it was told to")]
    Displaced,
    /// No worker could be had.
    #[error("no worker is available: {0}")]
    Unavailable(String),
    /// The caller is at fault.
    #[error("{}", error.message)]
    Refused {
        /// The HTTP status that says so.
        status: u16,
        /// What is wrong.
        error: GraphError,
    },
    /// The graph raised.
    #[error("{}: {}", .0.error, .0.message)]
    Raised(GraphError),
    /// What a run did could not be stored.
    #[error("state could not be stored: {0}")]
    Storage(crate::storage::StorageError),
}
