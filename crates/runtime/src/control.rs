//! The control connection: asks the worker again and again whether its event loop still turns. An OS thread of its own
//! answers there, so that a blocked event loop is not mistaken for a dead process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncWriteExt,
    net::unix::OwnedWriteHalf,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::FrameReader,
    frame::{Frame, FrameError},
    protocol::{self, kind},
};

/// How often the worker is asked.
const EVERY: Duration = Duration::from_secs(1);
/// From this on an event loop counts as blocked.
const BLOCKED: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct Ping {
    t: u64,
}

#[derive(Deserialize)]
struct Pong {
    lag_ms: f64,
    rss: u64,
    runs: u32,
}

/// What the worker last said of itself.
#[derive(Default)]
pub(crate) struct Pulse {
    memory: AtomicU64,
    lag_micros: AtomicU64,
}

impl Pulse {
    pub(crate) fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    pub(crate) fn lag(&self) -> Duration {
        Duration::from_micros(self.lag_micros.load(Ordering::Relaxed))
    }

    fn note(&self, pong: &Pong) {
        self.memory.store(pong.rss, Ordering::Relaxed);
        let lag = Duration::try_from_secs_f64(pong.lag_ms / 1_000.0).unwrap_or_default();
        self.lag_micros.store(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Both halves of the control connection; the worker ends itself when they are closed.
pub(crate) struct Control {
    pub(crate) read: FrameReader,
    pub(crate) write: OwnedWriteHalf,
    pub(crate) pulse: Arc<Pulse>,
}

impl Control {
    /// Asks until the worker is gone. An episode of blocking is reported once, next to the stack that the worker prints.
    /// A worker that says what makes no sense is ended.
    pub(crate) async fn watch(mut self, pid: u32, gone: CancellationToken, kill: CancellationToken) {
        let started = Instant::now();
        let mut ticks = tokio::time::interval_at(started + EVERY, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut blocked = false;
        loop {
            tokio::select! {
                () = gone.cancelled() => return,
                _ = ticks.tick() => {
                    let t = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    if self.ask(&Ping { t }).await.is_err() {
                        return;
                    }
                }
                answer = self.read.next() => match understood(answer) {
                    Ok(Some(pong)) => {
                        self.pulse.note(&pong);
                        blocked = report(pid, &pong, blocked);
                    }
                    Ok(None) => return,
                    Err(error) => {
                        tracing::error!(pid, %error, "a worker's answer on its control connection makes no sense; it is ended");
                        return kill.cancel();
                    }
                },
            }
        }
    }

    async fn ask(&mut self, ping: &Ping) -> std::io::Result<()> {
        let mut wire = bytes::BytesMut::new();
        protocol::frame(kind::PING, 0, ping).encode(&mut wire);
        self.write.write_all(&wire).await
    }
}

fn understood(answer: Result<Option<Frame>, FrameError>) -> Result<Option<Pong>, FrameError> {
    answer?.map(|frame| protocol::read(&frame.body)).transpose()
}

/// Says whether the event loop is blocked now.
fn report(pid: u32, pong: &Pong, was_blocked: bool) -> bool {
    let is_blocked = pong.lag_ms > BLOCKED.as_secs_f64() * 1_000.0;
    if is_blocked && !was_blocked {
        tracing::warn!(
            pid,
            lag_ms = pong.lag_ms.round(),
            runs = pong.runs,
            rss_mib = pong.rss >> 20,
            "a worker's event loop is blocked by synchronous code; its other runs wait"
        );
    }
    is_blocked
}
