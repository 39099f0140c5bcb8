//! The operating-system process of a worker: its end is noticed, and it can be ended.

use std::{fmt, io, os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc};

use serde::Deserialize;
use tokio::{process::Child, sync::oneshot};

use crate::zygote::Zygote;

/// A process that belongs to one worker.
pub(crate) enum Process {
    /// Started by this server.
    Own(Child),
    /// Forked by the zygote, which says when it ends.
    Forked { zygote: Arc<Zygote>, pid: u32, exit: oneshot::Receiver<Exit> },
}

/// How a process ended, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Exit {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

impl Process {
    /// Waits for the end.
    pub(crate) async fn exited(&mut self) -> Exit {
        match self {
            Self::Own(child) => child.wait().await.map(Exit::from).unwrap_or_default(),
            Self::Forked { exit, .. } => exit.await.unwrap_or_default(),
        }
    }

    /// Ends it at once.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        match self {
            Self::Own(child) => child.start_kill(),
            Self::Forked { zygote, pid, .. } => zygote.kill(*pid).await,
        }
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        Self { code: status.code(), signal: status.signal() }
    }
}

/// The signal of a process that gave up by itself.
const ABORT: i32 = 6;

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "it ended with exit code {code}"),
            (None, Some(ABORT)) => {
                write!(f, "it was ended by signal {ABORT}: it gave up by itself, as for want of memory")
            }
            (None, Some(signal)) => write!(f, "it was ended by signal {signal}"),
            (None, None) => f.write_str("it ended"),
        }
    }
}
