//! One worker process: started, connected, loaded, and stopped.

use std::{io, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use threadyard_core::runtime::RuntimeError;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::{UnixListener, UnixStream},
    process::Child,
    sync::{Mutex, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    callbacks::Callbacks,
    connection::{Connection, FrameReader, Said, Waiter, refusal},
    frame::{Frame, FrameError},
    protocol::{self, Drain, Hello, Load, Log, Ready, kind},
    zygote::{Launch, Zygote},
};

/// How long a worker may take to connect, and to import the user's graphs.
const CONNECT_WITHIN: Duration = Duration::from_mins(1);
const LOAD_WITHIN: Duration = Duration::from_mins(5);

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
    /// Cancelled when the process is gone.
    pub(crate) gone: CancellationToken,
    pid: u32,
    origin: Origin,
    /// The process, when it is our own child.
    process: Mutex<Option<Child>>,
    /// Host and worker end each other through these.
    _control: UnixStream,
}

/// What starting a worker needs.
pub(crate) struct Start<'a> {
    pub(crate) launch: &'a Launch,
    pub(crate) origin: Origin,
    pub(crate) load: Load,
    pub(crate) callbacks: Callbacks,
    pub(crate) token: String,
}

impl Worker {
    /// Starts a worker and waits until it has loaded the graphs.
    pub(crate) async fn start(start: Start<'_>) -> Result<Arc<Self>, RuntimeError> {
        let failed = |error: io::Error| RuntimeError::Unavailable(format!("a worker could not be started: {error}"));
        let folder = tempfile::Builder::new()
            .prefix("threadyard-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(failed)?;
        let path = folder.path().join("worker.sock");
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let process = spawn(&start, &path.to_string_lossy()).await.map_err(failed)?;
        let tasks = start.callbacks.tasks.clone();
        let connected = tokio::time::timeout(CONNECT_WITHIN, accept(&listener, &start.token, &tasks)).await;
        let (main, control, hello) = connected
            .map_err(|_| {
                RuntimeError::Unavailable("a worker did not connect in time; see its output in the log".into())
            })?
            .map_err(failed)?;
        let Some(version) = protocol::choose_version(hello.proto) else {
            let (ours, theirs) = (protocol::VERSIONS, hello.proto);
            return Err(RuntimeError::Unavailable(format!(
                "the worker speaks protocol versions {theirs:?}, this server {ours:?}"
            )));
        };
        let (read, write) = main;
        let connection = Connection::start(write, &tasks);
        let load = Load { proto: version, ..start.load };
        connection.send(protocol::frame(kind::LOAD, 0, &load));
        let (ready, loaded) = oneshot::channel();
        let gone = CancellationToken::new();
        tasks.spawn(listen(read, connection.clone(), start.callbacks, ready, gone.clone()));
        let loaded = tokio::time::timeout(LOAD_WITHIN, loaded).await;
        let ready = loaded
            .map_err(|_| RuntimeError::Unavailable("the graphs were not loaded within five minutes".into()))?
            .map_err(|_| {
                RuntimeError::Unavailable(
                    "the worker ended while it loaded the graphs; see its output in the log".into(),
                )
            })?;
        Ok(Arc::new(Self {
            connection,
            ready,
            gone,
            pid: hello.pid,
            origin: start.origin,
            process: Mutex::new(process),
            _control: control,
        }))
    }

    /// Lets the worker finish its runs, cancels what is left after `grace`, and ends it at the latest soon after.
    pub(crate) async fn stop(&self, grace: Duration) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.connection.send(protocol::frame(kind::DRAIN, 0, &Drain { grace_ms }));
        if tokio::time::timeout(grace + Duration::from_secs(6), self.gone.cancelled()).await.is_err() {
            self.kill().await;
        }
    }

    /// Ends the worker at once.
    pub(crate) async fn kill(&self) {
        if let Origin::Zygote(zygote) = &self.origin {
            let _ = zygote.kill(self.pid).await;
        }
        if let Some(process) = self.process.lock().await.as_mut() {
            let _ = process.kill().await;
        }
    }
}

async fn spawn(start: &Start<'_>, path: &str) -> io::Result<Option<Child>> {
    match &start.origin {
        Origin::Zygote(zygote) => zygote.fork(path, &start.token).await.map(|()| None),
        Origin::Exec => {
            let mut command = start.launch.command("threadyard_worker");
            command.env("THREADYARD_SOCKET", path).env("THREADYARD_TOKEN", &start.token);
            let mut process = command.spawn()?;
            log_output(&mut process, &start.callbacks.tasks);
            Ok(Some(process))
        }
    }
}

type Halves = (FrameReader, tokio::net::unix::OwnedWriteHalf);

/// Accepts the connections of a worker until its main and control connections are there.
async fn accept(listener: &UnixListener, token: &str, tasks: &TaskTracker) -> io::Result<(Halves, UnixStream, Hello)> {
    let (mut main, mut control) = (None, None);
    loop {
        let (stream, _) = listener.accept().await?;
        let (read, write) = stream.into_split();
        let mut reader = FrameReader::new(read);
        let hello = match reader.next().await {
            Ok(Some(Frame { kind: kind::HELLO, body, .. })) => protocol::read::<Hello>(&body).ok(),
            _ => None,
        };
        let Some(hello) = hello.filter(|hello| hello.token == token) else {
            tracing::warn!("a connection to a worker's socket did not say who it is");
            continue;
        };
        match hello.role.as_str() {
            "main" => main = Some(((reader, write), hello)),
            "control" => control = reader.into_rest().1.reunite(write).ok(),
            stream => {
                let (rest, read) = reader.into_rest();
                tasks.spawn(log_lines(tokio::io::AsyncReadExt::chain(io::Cursor::new(rest), read), stream.to_owned()));
            }
        }
        if main.is_some() && control.is_some() {
            let (Some((halves, hello)), Some(control)) = (main.take(), control.take()) else { continue };
            return Ok((halves, control, hello));
        }
    }
}

/// Reads what the worker says until it is gone.
async fn listen(
    mut reader: FrameReader,
    connection: Arc<Connection>,
    callbacks: Callbacks,
    ready: oneshot::Sender<Ready>,
    gone: CancellationToken,
) {
    let mut ready = Some(ready);
    let why = loop {
        match reader.next().await {
            Ok(Some(frame)) => {
                if let Err(error) = hear(frame, &connection, &callbacks, &mut ready) {
                    break format!("it said something that makes no sense: {error}");
                }
            }
            Ok(None) => break "its connection closed".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    connection.lose(&why);
    gone.cancel();
}

fn hear(
    frame: Frame,
    connection: &Arc<Connection>,
    callbacks: &Callbacks,
    ready: &mut Option<oneshot::Sender<Ready>>,
) -> Result<(), FrameError> {
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
            if let Some(Waiter::Call(reply)) = connection.take(frame.id) {
                let _ = reply.send(if status == 0 { Ok(body) } else { Err(refusal(&body)) });
            }
        }
        kind::CP_PUT | kind::CP_WRITES | kind::CP_CALL | kind::STORE_BATCH => callbacks.serve(connection, &frame)?,
        kind::READY => {
            let message = protocol::read(&frame.body)?;
            if let Some(ready) = ready.take() {
                let _ = ready.send(message);
            }
        }
        kind::LOG => {
            let log: Log = protocol::read(&frame.body)?;
            tracing::warn!(target: "worker", logger = log.logger, level = log.level, "{}", log.message);
        }
        kind::BYE => {}
        unknown => tracing::warn!(kind = unknown, "a worker sent a frame of an unknown kind"),
    }
    Ok(())
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
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::info!(target: "worker", stream, "{line}");
    }
}
