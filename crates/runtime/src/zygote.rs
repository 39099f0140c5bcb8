//! The process that has imported langgraph and forks workers which have it already.

use std::{
    collections::HashMap,
    io,
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
    process::Child,
    sync::{Mutex, oneshot},
};
use tokio_util::task::TaskTracker;

use crate::{
    child::{Exit, Process},
    launch::Launch,
    worker::Origin,
};

/// How long the zygote may take to import langgraph.
const READY_WITHIN: Duration = Duration::from_mins(1);

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
        let Some(mut command) = launch.zygote() else { return Ok(None) };
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

/// Where workers come from: forked from a zygote, where that is wanted and safe.
pub(crate) async fn origin(fork: bool, launch: &Launch, tasks: &TaskTracker) -> Origin {
    if !fork {
        return Origin::Exec;
    }
    match Zygote::start(launch, tasks).await {
        Ok(Some(zygote)) => Origin::Zygote(zygote),
        Ok(None) => Origin::Exec,
        Err(error) => {
            tracing::warn!(%error, "no process to fork workers from; starting each by itself");
            Origin::Exec
        }
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
