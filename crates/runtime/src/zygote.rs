//! The process that has imported langgraph and forks workers which have it already.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, Command},
    sync::{Mutex, oneshot},
};
use tokio_util::task::TaskTracker;

use crate::{
    child::{Exit, Process},
    launch::python::Interpreter,
};

/// How long the zygote may take to import langgraph.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// What every process of a project is started with.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) interpreter: Interpreter,
    /// The folder of the worker package.
    pub(crate) package: PathBuf,
    /// The project's folder, where its code runs.
    pub(crate) folder: PathBuf,
    /// Variables beyond the server's own.
    pub(crate) env: BTreeMap<String, String>,
}

impl Launch {
    /// A Python process that runs a module of the worker package.
    #[expect(clippy::disallowed_methods, reason = "workers are what this crate starts processes for")]
    pub(crate) fn command(&self, module: &str) -> Command {
        let mut command = Command::new(&self.interpreter.program);
        command.args(["-m", module]).current_dir(&self.folder).envs(&self.env);
        // What the server proves itself with is not for the project's code.
        for secret in ["LG_WEBHOOK_SIGNING_SECRET", "THREADYARD_OPERATOR_TOKEN"] {
            command.env_remove(secret);
        }
        command.env("PYTHONPATH", &self.package).env("PYTHONUNBUFFERED", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // A Ctrl-C in the terminal is for the server, which then drains its workers.
        command.process_group(0);
        command
    }
}

/// A running zygote.
pub(crate) struct Zygote {
    orders: Mutex<OwnedWriteHalf>,
    /// Who waits for a fork, by the token of the worker to be.
    births: Births,
    _process: Child,
}

type Birth = (u32, oneshot::Receiver<Exit>);
type Births = Arc<std::sync::Mutex<HashMap<String, oneshot::Sender<Birth>>>>;

#[derive(Deserialize)]
struct News {
    #[serde(default)]
    os_threads: Option<u32>,
    #[serde(default)]
    forked: Option<Forked>,
    #[serde(default)]
    exited: Option<Exited>,
}

#[derive(Deserialize)]
struct Forked {
    token: String,
    pid: u32,
}

#[derive(Deserialize)]
struct Exited {
    pid: u32,
    #[serde(flatten)]
    exit: Exit,
}

impl Zygote {
    /// Starts a zygote and waits until it can fork. `None`: it has more than one OS thread, so forking it is not safe.
    pub(crate) async fn start(launch: &Launch, tasks: &TaskTracker) -> io::Result<Option<Arc<Self>>> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = launch.command("threadyard_worker.zygote");
        let theirs: std::os::fd::OwnedFd = theirs.into_std()?.into();
        // The Python side expects a blocking socket.
        rustix::io::ioctl_fionbio(&theirs, false)?;
        command.stdin(Stdio::from(theirs)).env("THREADYARD_ZYGOTE_FD", "0");
        let mut process = command.spawn()?;
        drop(command);
        crate::worker::log_output(&mut process, tasks);
        let (read, orders) = ours.into_split();
        let mut lines = BufReader::new(read).lines();
        let ready = tokio::time::timeout(READY_WITHIN, lines.next_line()).await.map_err(io::Error::from)??;
        let news: News = ready
            .and_then(|line| serde_json::from_str(&line).ok())
            .ok_or_else(|| io::Error::other("it ended before it was ready"))?;
        if news.os_threads != Some(1) {
            return Ok(None);
        }
        let births = Births::default();
        tasks.spawn(hear(lines, births.clone()));
        Ok(Some(Arc::new(Self { orders: Mutex::new(orders), births, _process: process })))
    }

    /// Has a worker forked, which will connect by itself.
    pub(crate) async fn fork(self: &Arc<Self>, socket: &str, token: &str) -> io::Result<Process> {
        let (tell, birth) = oneshot::channel();
        self.births.lock().unwrap_or_else(PoisonError::into_inner).insert(token.to_owned(), tell);
        self.order(&json!({ "fork": { "socket": socket, "token": token } })).await?;
        let birth = tokio::time::timeout(READY_WITHIN, birth).await.map_err(io::Error::from)?;
        let (pid, exit) = birth.map_err(|_| io::Error::other("the process that forks workers has ended"))?;
        Ok(Process::Forked { zygote: self.clone(), pid, exit })
    }

    /// Ends a worker at once.
    pub(crate) async fn kill(&self, pid: u32) -> io::Result<()> {
        self.order(&json!({ "kill": { "pid": pid, "signal": 9 } })).await
    }

    async fn order(&self, order: &serde_json::Value) -> io::Result<()> {
        let line = format!("{order}\n");
        self.orders.lock().await.write_all(line.as_bytes()).await
    }
}

/// Passes on what the zygote says, until it is gone; then nobody waits for forks any more.
async fn hear(mut lines: Lines<BufReader<OwnedReadHalf>>, births: Births) {
    let mut children = HashMap::new();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str::<News>(&line) {
            Ok(News { forked: Some(Forked { token, pid }), .. }) => {
                let (tell, exit) = oneshot::channel();
                children.insert(pid, tell);
                if let Some(waiting) = births.lock().unwrap_or_else(PoisonError::into_inner).remove(&token) {
                    let _ = waiting.send((pid, exit));
                }
            }
            Ok(News { exited: Some(Exited { pid, exit }), .. }) => {
                if let Some(waiting) = children.remove(&pid) {
                    let _ = waiting.send(exit);
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the zygote says something that makes no sense"),
        }
    }
    births.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
