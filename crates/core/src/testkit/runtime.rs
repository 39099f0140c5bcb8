//! A runtime whose runs do what a test tells them, step by step.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex as BriefMutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::{
    items::ToEmbed,
    json::{RawJson, raw},
    runtime::{
        GraphCall, GraphError, GraphInfo, GraphRuntime, Language, RunEnd, RunEndStatus, RunJob, RunSession,
        RuntimeError, SessionEvent, StopReason,
    },
    stream::StreamEvent,
    workers::Workers,
};

/// Hands every run that the engine starts to the test.
pub struct ScriptedRuntime {
    graphs: Vec<GraphInfo>,
    begun: mpsc::UnboundedSender<ScriptedRun>,
    runs: Mutex<mpsc::UnboundedReceiver<ScriptedRun>>,
    gates: BriefMutex<VecDeque<Gated>>,
}

/// Holds a run before it begins: the engine has claimed it, and waits for the runtime. Letting go of it opens it.
pub struct Gate {
    reached: oneshot::Receiver<RunJob>,
    verdict: oneshot::Sender<RuntimeError>,
}

/// The runtime's side of a gate.
struct Gated {
    reached: oneshot::Sender<RunJob>,
    verdict: oneshot::Receiver<RuntimeError>,
}

/// A run in the hands of a test.
pub struct ScriptedRun {
    /// What the engine asked for.
    pub job: RunJob,
    said: mpsc::UnboundedSender<SessionEvent>,
    stops: mpsc::UnboundedReceiver<StopReason>,
}

impl ScriptedRuntime {
    /// A project with the graph `echo`, and `broken`, which can't be loaded.
    pub fn start() -> Arc<Self> {
        let error = GraphError { error: "SyntaxError".into(), message: "broken on purpose".into(), traceback: None };
        let graph = |id: &str, language, failure| GraphInfo { id: id.into(), language, description: None, failure };
        let (begun, runs) = mpsc::unbounded_channel();
        let graphs = vec![graph("echo", Language::Python, None), graph("broken", Language::Python, Some(error))];
        Arc::new(Self { graphs, begun, runs: Mutex::new(runs), gates: BriefMutex::default() })
    }

    /// The same, with the graph `echo_ts` in another language.
    pub fn in_two_languages() -> Arc<Self> {
        let mut project = Arc::into_inner(Self::start()).expect("nobody else has it yet");
        let twin = GraphInfo { id: "echo_ts".into(), language: Language::Node, ..project.graphs[0].clone() };
        project.graphs.push(twin);
        Arc::new(project)
    }

    /// Holds the next run that the engine starts, or, after another gate, the one behind it.
    pub fn gate(&self) -> Gate {
        let ((told, reached), (verdict, heard)) = (oneshot::channel(), oneshot::channel());
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).push_back(Gated { reached: told, verdict: heard });
        Gate { reached, verdict }
    }

    /// Waits for the next run that the engine starts.
    pub async fn next_run(&self) -> ScriptedRun {
        self.runs.lock().await.recv().await.expect("the runtime holds a sender itself")
    }

    /// The next run, if one was started already.
    pub async fn started_run(&self) -> Option<ScriptedRun> {
        self.runs.lock().await.try_recv().ok()
    }
}

#[async_trait]
impl GraphRuntime for ScriptedRuntime {
    fn graphs(&self) -> Vec<GraphInfo> {
        self.graphs.clone()
    }

    fn revision(&self) -> String {
        "1".into()
    }

    fn slots(&self) -> u32 {
        4
    }

    fn workers(&self) -> Workers {
        Workers::default()
    }

    async fn start(&self, job: RunJob) -> Result<Box<dyn RunSession>, RuntimeError> {
        let gate = self.gates.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some(gate) = gate {
            let _ = gate.reached.send(job.clone());
            if let Ok(refusal) = gate.verdict.await {
                return Err(refusal);
            }
        }
        let ((said, heard), (stop, stops)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let session = Session { heard, said: said.downgrade(), stop };
        let _ = self.begun.send(ScriptedRun { job, said, stops });
        Ok(Box::new(session))
    }

    /// Answers what was asked.
    async fn call(&self, call: GraphCall) -> Result<RawJson, RuntimeError> {
        Ok(call.args)
    }

    /// The length of a text is its meaning.
    async fn embed(&self, texts: ToEmbed) -> Result<Vec<Vec<f32>>, RuntimeError> {
        let text = match texts {
            ToEmbed::Query(query) => query,
            ToEmbed::Value { value, .. } => value.get().to_owned(),
        };
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        Ok(vec![vec![f32::from(length), 1.0]])
    }

    async fn shutdown(&self, _grace: Duration) {}
}

impl Gate {
    /// Waits until the engine is about to begin a run, and says which.
    pub async fn reached(&mut self) -> RunJob {
        (&mut self.reached).await.expect("the runtime is gone")
    }

    /// Refuses the run.
    pub fn refuse(self, error: RuntimeError) {
        let _ = self.verdict.send(error);
    }
}

impl ScriptedRun {
    /// Says something.
    pub fn say(&self, name: &str, data: &impl Serialize) {
        let event = StreamEvent { name: name.into(), data: raw(data).get().to_owned().into() };
        let _ = self.said.send(SessionEvent::Events(vec![event]));
    }

    /// Ends with these values.
    pub fn succeed(&self, values: &impl Serialize) {
        self.end(RunEnd { values: Some(raw(values)), ..run_end(RunEndStatus::Success) });
    }

    /// Pauses at an interrupt.
    pub fn pause(&self, values: &impl Serialize) {
        let interrupts = raw(&serde_json::json!({ "task": [{ "id": "i", "value": "go on?" }] }));
        let end = run_end(RunEndStatus::Success);
        self.end(RunEnd { values: Some(raw(values)), interrupts: Some(interrupts), has_next: true, ..end });
    }

    /// Raises.
    pub fn raise(&self, error: &str, message: &str) {
        let error = GraphError { error: error.into(), message: message.into(), traceback: None };
        self.end(RunEnd { error: Some(error), ..run_end(RunEndStatus::Error) });
    }

    /// Loses its process.
    pub fn lose(&self) {
        let lost = RuntimeError::WorkerLost("it was ended by signal 9".into());
        let _ = self.said.send(SessionEvent::Lost(lost));
    }

    /// Waits until the run is told to stop, and obeys.
    pub async fn stopped(&mut self) -> StopReason {
        let reason = self.told_to_stop().await;
        self.end(run_end(RunEndStatus::Cancelled));
        reason
    }

    /// Waits until the run is told to stop, and goes on all the same.
    pub async fn told_to_stop(&mut self) -> StopReason {
        self.stops.recv().await.expect("the engine let go of the run")
    }

    /// Ends in this way.
    pub fn end(&self, end: RunEnd) {
        let _ = self.said.send(SessionEvent::Ended(end));
    }
}

/// An end that leaves nothing.
pub fn run_end(status: RunEndStatus) -> RunEnd {
    RunEnd { status, result: None, values: None, state: None, interrupts: None, has_next: false, error: None }
}

struct Session {
    heard: mpsc::UnboundedReceiver<SessionEvent>,
    said: mpsc::WeakUnboundedSender<SessionEvent>,
    stop: mpsc::UnboundedSender<StopReason>,
}

#[async_trait]
impl RunSession for Session {
    async fn next(&mut self) -> SessionEvent {
        let gone = || SessionEvent::Lost(RuntimeError::WorkerLost("the test let go of the run".into()));
        self.heard.recv().await.unwrap_or_else(gone)
    }

    fn cancel(&self, reason: StopReason) {
        let _ = self.stop.send(reason);
    }

    fn abandon(&self) {
        let lost = SessionEvent::Lost(RuntimeError::WorkerLost("it did not stop when asked to".into()));
        if let Some(said) = self.said.upgrade() {
            let _ = said.send(lost);
        }
    }
}
