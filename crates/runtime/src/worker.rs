//! One worker process: started, connected, loaded, and stopped.

use std::{
    collections::HashSet,
    io,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use serde_json::json;
use threadyard_core::{
    items::ToEmbed,
    json::{RawJson, raw},
    runtime::{GraphCall, RunJob, RuntimeError},
    sealing,
    workers::WorkerState,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    net::{UnixListener, unix::OwnedWriteHalf},
    process::Child,
    sync::{mpsc, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    callbacks::Callbacks,
    child::{Exit, Process},
    connection::{Connection, FrameReader, RunSlot, Said, Waiter, refusal},
    control::{Control, Pulse},
    custom_app::PassedOn,
    exchange::{self, Exchange},
    frame::{Frame, FrameError},
    launch::Launch,
    load::{Load, Ready},
    protocol::{self, Call, Drain, Hello, Log, kind},
    session::Session,
    zygote::Zygote,
};

/// How long a worker may take to connect, and to import the user's graphs.
const CONNECT_WITHIN: Duration = Duration::from_mins(1);
const LOAD_WITHIN: Duration = Duration::from_mins(5);
/// How long a worker whose connection closed may take to end.
const EXIT_WITHIN: Duration = Duration::from_secs(1);
/// How long the other runs of a worker may go on that one of them holds up.
const OTHERS_END_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longer lines of output are logged in pieces.
const MAX_LINE: u64 = 64 << 10;

/// How worker processes come into being.
#[derive(Clone)]
pub(crate) enum Origin {
    /// Forked from a process that has imported langgraph.
    Zygote(Arc<Zygote>),
    /// Started afresh, each by itself.
    Exec,
}

/// A worker that has loaded the graphs.
pub(crate) struct Worker {
    pub(crate) connection: Arc<Connection>,
    pub(crate) ready: Ready,
    pulse: Arc<Pulse>,
    /// Cancelled when the process is gone.
    pub(crate) gone: CancellationToken,
    /// Cancelled when a run on it does not stop when it is told to.
    pub(crate) stuck: CancellationToken,
    /// The slots of those runs.
    stuck_slots: Mutex<HashSet<u64>>,
    /// Cancelled to have the process ended at once.
    kill: CancellationToken,
}

/// What every worker of a project is started from.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) launch: Launch,
    pub(crate) origin: Origin,
    pub(crate) callbacks: Callbacks,
}

impl Ground {
    /// Starts a worker and waits until it has loaded what it is for.
    pub(crate) async fn start_worker(&self, load: Load) -> Result<Arc<Worker>, RuntimeError> {
        let failed = |error: io::Error| RuntimeError::Unavailable(format!("a worker could not be started: {error}"));
        let folder = tempfile::Builder::new()
            .prefix("threadyard-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(failed)?;
        let path = folder.path().join("worker.sock");
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let token = self.callbacks.ambient.random().simple().to_string();
        let process = self.spawn(&path.to_string_lossy(), &token).await.map_err(failed)?;
        Worker::meet(&listener, process, load, self.callbacks.clone(), &token).await
    }

    async fn spawn(&self, path: &str, token: &str) -> io::Result<Process> {
        if let Origin::Zygote(zygote) = &self.origin {
            match zygote.fork(path, token).await {
                Ok(process) => return Ok(process),
                Err(error) => tracing::warn!(%error, "a worker could not be forked; starting it by itself"),
            }
        }
        let mut command = self.launch.worker();
        command.env("THREADYARD_SOCKET", path).env("THREADYARD_TOKEN", token);
        let mut process = command.spawn()?;
        log_output(&mut process, &self.callbacks.tasks);
        Ok(Process::Own(process))
    }
}

impl Worker {
    /// Waits for the connections of a worker, and until it has loaded the graphs.
    pub(crate) async fn meet(
        listener: &UnixListener,
        mut process: Process,
        load: Load,
        callbacks: Callbacks,
        token: &str,
    ) -> Result<Arc<Self>, RuntimeError> {
        let unavailable = |why: &str| RuntimeError::Unavailable(format!("{why}; see its output in the log"));
        let tasks = callbacks.tasks.clone();
        let Accepted { read, write, control, hello } = tokio::select! {
            accepted = accept(listener, token, &tasks) => accepted.map_err(|error| unavailable(&error.to_string()))?,
            exit = process.exited() => return Err(unavailable(&format!("a worker did not connect: {exit}"))),
            () = tokio::time::sleep(CONNECT_WITHIN) => return Err(unavailable("a worker did not connect in time")),
        };
        let Some(version) = protocol::choose_version(hello.proto) else {
            let (ours, theirs) = (protocol::VERSIONS, hello.proto);
            return Err(RuntimeError::Unavailable(format!(
                "the worker speaks protocol versions {theirs:?}, this server {ours:?}"
            )));
        };
        let connection = Connection::start(write, &tasks);
        connection.send(protocol::frame(kind::LOAD, 0, &Load { proto: version, ..load }));
        let (ready, loaded) = oneshot::channel();
        let (gone, kill) = (CancellationToken::new(), CancellationToken::new());
        let listener = Listener { connection: connection.clone(), callbacks, ready: Some(ready) };
        tasks.spawn(listener.listen(read, process, kill.clone(), gone.clone()));
        let pulse = control.pulse.clone();
        tasks.spawn(control.watch(hello.pid, gone.clone(), kill.clone()));
        let loaded = tokio::time::timeout(LOAD_WITHIN, loaded).await;
        let ready = loaded
            .map_err(|_| unavailable("the graphs were not loaded within five minutes"))
            .and_then(|loaded| loaded.map_err(|_| unavailable("the worker ended while it loaded the graphs")))
            .inspect_err(|_| kill.cancel())?;
        let worker = Arc::new(Self {
            connection,
            ready,
            pulse,
            gone,
            stuck: CancellationToken::new(),
            stuck_slots: Mutex::default(),
            kill,
        });
        tasks.spawn(end_when_stuck(worker.clone()));
        Ok(worker)
    }

    /// Begins a run.
    pub(crate) fn run(self: &Arc<Self>, job: &RunJob) -> Result<Session, RuntimeError> {
        let (said, heard) = mpsc::unbounded_channel();
        let run = RunSlot { writer: job.writer(), said, commits: Vec::new(), sealing: sealing::current() };
        let slot = self.connection.register(Waiter::Run(run))?;
        self.connection.send(protocol::run_start(slot, job));
        let (connection, worker) = (self.connection.clone(), self.clone());
        Ok(Session { connection, slot, said: heard, held: None, worker, own: None })
    }

    /// Asks a graph something.
    pub(crate) async fn call(&self, call: &GraphCall) -> Result<RawJson, RuntimeError> {
        self.ask(call.operation, Some(&call.graph_id), &call.args).await
    }

    /// Makes vectors of texts.
    pub(crate) async fn embed(&self, texts: &ToEmbed) -> Result<Vec<Vec<f32>>, RuntimeError> {
        let args = match texts {
            ToEmbed::Query(query) => raw(&json!({ "query": query })),
            ToEmbed::Value { value, fields } => raw(&json!({ "value": value, "fields": fields })),
        };
        let vectors = self.ask("embed", None, &args).await?;
        serde_json::from_str(vectors.get()).map_err(|error| RuntimeError::WorkerLost(error.to_string()))
    }

    /// Asks something that is written as JSON.
    pub(crate) async fn ask(
        &self,
        op: impl Serialize,
        graph: Option<&str>,
        args: &RawJson,
    ) -> Result<RawJson, RuntimeError> {
        let (reply, answer) = oneshot::channel();
        let id = self.connection.register(Waiter::Call(reply, sealing::current()))?;
        let _forgotten = self.connection.forget_when_dropped(id);
        let body = Call { op, graph, args: protocol::json_bytes(args) };
        self.connection.send(protocol::frame(kind::CALL, id, &body));
        let lost = |_| RuntimeError::WorkerLost("it ended before it answered".into());
        let body = answer.await.map_err(lost)??;
        protocol::json(body).map_err(|error| RuntimeError::WorkerLost(error.to_string()))
    }

    /// Lets the worker finish its runs, cancels what is left after `grace`, and ends it at the latest soon after.
    pub(crate) async fn stop(&self, grace: Duration) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.connection.send(protocol::frame(kind::DRAIN, 0, &Drain { grace_ms }));
        if tokio::time::timeout(grace + Duration::from_secs(6), self.gone.cancelled()).await.is_err() {
            self.kill.cancel();
        }
    }
}

impl Worker {
    /// How it stands.
    pub(crate) fn state(&self) -> WorkerState {
        WorkerState { runs: self.connection.runs() as u64, memory: self.pulse.memory(), lag: self.pulse.lag() }
    }

    /// A run does not stop when it is told to.
    pub(crate) fn abandon(&self, slot: u64) {
        self.stuck_slots.lock().unwrap_or_else(PoisonError::into_inner).insert(slot);
        self.stuck.cancel();
    }

    fn stuck_slots(&self) -> HashSet<u64> {
        self.stuck_slots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Ends a worker on which a run does not stop. Nothing but the end of the process stops a thread, or code that never lets
/// go; the other runs on it, which get no new neighbours, have some time before that.
async fn end_when_stuck(worker: Arc<Worker>) {
    tokio::select! {
        () = worker.stuck.cancelled() => {}
        () = worker.gone.cancelled() => return,
    }
    let others_end = async {
        while worker.connection.has_runs_besides(&worker.stuck_slots()) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let _ = tokio::time::timeout(OTHERS_END_WITHIN, others_end).await;
    worker.connection.displace();
    worker.kill.cancel();
}

/// The connections that make a worker.
struct Accepted {
    read: FrameReader,
    write: OwnedWriteHalf,
    control: Control,
    hello: Hello,
}

/// Accepts the connections of a worker until its main and control connections are there.
async fn accept(listener: &UnixListener, token: &str, tasks: &TaskTracker) -> io::Result<Accepted> {
    let (mut main, mut control) = (None, None);
    loop {
        let (stream, _) = listener.accept().await?;
        let (read, write) = stream.into_split();
        let mut read = FrameReader::new(read);
        let hello = match read.next().await {
            Ok(Some(Frame { kind: kind::HELLO, body, .. })) => protocol::read::<Hello>(&body).ok(),
            _ => None,
        };
        let Some(hello) = hello.filter(|hello| hello.token == token) else {
            tracing::warn!("a connection to a worker's socket did not say who it is");
            continue;
        };
        match hello.role.as_str() {
            "main" => main = Some((read, write, hello)),
            "control" => control = Some(Control { read, write, pulse: Arc::default() }),
            stream => {
                let (rest, read) = read.into_rest();
                tasks.spawn(log_lines(tokio::io::AsyncReadExt::chain(io::Cursor::new(rest), read), stream.to_owned()));
            }
        }
        if main.is_some() && control.is_some() {
            let (Some((read, write, hello)), Some(control)) = (main.take(), control.take()) else { continue };
            return Ok(Accepted { read, write, control, hello });
        }
    }
}

/// Who hears what the worker says.
struct Listener {
    connection: Arc<Connection>,
    callbacks: Callbacks,
    ready: Option<oneshot::Sender<Ready>>,
}

impl Listener {
    /// Listens until the worker is gone, then tells everybody who waits for it.
    async fn listen(
        mut self,
        mut read: FrameReader,
        mut process: Process,
        kill: CancellationToken,
        gone: CancellationToken,
    ) {
        let nonsense = loop {
            tokio::select! {
                frame = read.next() => match frame.and_then(|frame| frame.map(|frame| self.hear(frame)).transpose()) {
                    Ok(Some(())) => {}
                    Ok(None) => break None,
                    Err(error) => break Some(format!("it said something that makes no sense: {error}")),
                },
                () = kill.cancelled() => break Some("it did not stop when asked to".to_owned()),
            }
        };
        if nonsense.is_some() {
            let _ = process.kill().await;
        }
        // A process that only closed its connection is of no use either.
        let exit = if let Ok(exit) = tokio::time::timeout(EXIT_WITHIN, process.exited()).await {
            exit
        } else {
            let _ = process.kill().await;
            Exit::default()
        };
        self.connection.lose(&nonsense.unwrap_or_else(|| exit.to_string()));
        gone.cancel();
    }

    fn hear(&mut self, frame: Frame) -> Result<(), FrameError> {
        let connection = &self.connection;
        match frame.kind {
            kind::EVENT => {
                let events = protocol::events(frame.body)?;
                connection.with_run(frame.id, |slot| drop(slot.said.send(Said::Events(events))));
            }
            kind::END => {
                let end = protocol::run_end(&frame.body)?;
                if let Some(Waiter::Run(slot)) = connection.take(frame.id) {
                    let _ = slot.said.send(Said::End(end, slot.commits));
                }
            }
            kind::REPLY => {
                let Some((&status, _)) = frame.body.split_first() else { return Err(FrameError::Truncated) };
                let body = frame.body.slice(1..);
                if let Some(Waiter::Call(reply, _)) = connection.take(frame.id) {
                    let _ = reply.send(if status == 0 { Ok(body) } else { Err(refusal(&body)) });
                }
            }
            kind::CP_PUT | kind::CP_WRITES | kind::CP_CALL | kind::STORE_BATCH => {
                self.callbacks.serve(connection, &frame)?;
            }
            kind::ASGI_OPEN => {
                let exchange = Exchange::theirs(connection.clone(), frame.id);
                let passed_on = PassedOn { scope: protocol::read(&frame.body)?, exchange };
                // Nobody may be there to hear it while the worker starts.
                let _ = self.callbacks.passed_on.send(passed_on);
            }
            kind::ASGI_MESSAGE | kind::ASGI_CREDIT | kind::ASGI_CLOSE => exchange::hear(connection, &frame)?,
            kind::READY => {
                let message = protocol::read(&frame.body)?;
                if let Some(ready) = self.ready.take() {
                    let _ = ready.send(message);
                }
            }
            kind::LOG => log_record(&protocol::read(&frame.body)?),
            kind::BYE => {}
            unknown => tracing::warn!(kind = unknown, "a worker sent a frame of an unknown kind"),
        }
        Ok(())
    }
}

/// Logs a record of the worker's logging under its own level.
fn log_record(Log { level, logger, message }: &Log) {
    match level.as_str() {
        "critical" | "error" => tracing::error!(target: "worker", logger, "{message}"),
        "warning" => tracing::warn!(target: "worker", logger, "{message}"),
        "info" => tracing::info!(target: "worker", logger, "{message}"),
        _ => tracing::debug!(target: "worker", logger, "{message}"),
    }
}

/// Logs what a process writes before it can say it better.
pub(crate) fn log_output(process: &mut Child, tasks: &TaskTracker) {
    if let Some(stdout) = process.stdout.take() {
        tasks.spawn(log_lines(stdout, "stdout".into()));
    }
    if let Some(stderr) = process.stderr.take() {
        tasks.spawn(log_lines(stderr, "stderr".into()));
    }
}

async fn log_lines(output: impl AsyncRead + Unpin, stream: String) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while matches!((&mut output).take(MAX_LINE).read_until(b'\n', &mut line).await, Ok(1..)) {
        tracing::info!(target: "worker", stream, "{}", String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}
