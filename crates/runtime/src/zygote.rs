//! The process that has imported langgraph and forks workers which have it already.

use std::{collections::BTreeMap, io, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixStream, unix::OwnedWriteHalf},
    process::{Child, Command},
    sync::Mutex,
};
use tokio_util::task::TaskTracker;

use crate::launch::python::Interpreter;

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
    _process: Child,
}

#[derive(Deserialize)]
struct News {
    #[serde(default)]
    os_threads: Option<u32>,
    #[serde(default)]
    exited: Option<Exit>,
}

#[derive(Deserialize)]
struct Exit {
    pid: u32,
    code: Option<i32>,
    signal: Option<i32>,
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
        tasks.spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str::<News>(&line) {
                    Ok(News { exited: Some(exit), .. }) if exit.code != Some(0) => {
                        tracing::warn!(
                            pid = exit.pid,
                            code = exit.code,
                            signal = exit.signal,
                            "a worker process ended"
                        );
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "the zygote says something that makes no sense"),
                }
            }
        });
        Ok(Some(Arc::new(Self { orders: Mutex::new(orders), _process: process })))
    }

    /// Has a worker forked, which will connect by itself.
    pub(crate) async fn fork(&self, socket: &str, token: &str) -> io::Result<()> {
        self.order(&json!({ "fork": { "socket": socket, "token": token } })).await
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
