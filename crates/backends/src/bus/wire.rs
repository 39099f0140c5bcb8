//! The wire between replicas: carries frames, in order, to one of them or to all, and loses some when it breaks.

use std::{
    collections::VecDeque,
    fmt::Display,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::{
    frames::{Frame, ReplicaId, Said},
    local::guard,
};

/// How many bytes of frames go out together.
const TOGETHER: usize = 1 << 20;
/// The time between two tries to connect grows from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Connects replicas.
pub(super) trait Wire: Send + 'static {
    /// Carries what goes out and hands in what arrives, until it is dropped. It connects again by itself.
    fn carry(self, ends: Ends) -> impl Future<Output = ()> + Send;
}

/// Where a wire ends at this replica.
pub(super) struct Ends {
    pub(super) replica: ReplicaId,
    pub(super) outgoing: Arc<Outgoing>,
    pub(super) heard: mpsc::Sender<Heard>,
}

/// For whom a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// Every replica, the sender included.
    All,
    /// One replica.
    One(ReplicaId),
}

/// What a wire hands in.
#[derive(Debug)]
pub(super) enum Heard {
    /// From now on frames arrive. What others said before may be lost.
    Connected,
    /// A frame for this replica, or for all.
    Frame(Bytes),
}

/// Frames that wait to be carried, within a bound: what is oldest goes first, and who misses it asks again.
pub(super) struct Outgoing {
    max_bytes: usize,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<(To, Bytes)>,
    bytes: usize,
    dropped: u64,
}

impl Outgoing {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, waiting: Mutex::default(), filled: Notify::new() }
    }

    /// Queues a frame. Never waits.
    pub(super) fn push(&self, to: To, frame: Bytes) {
        {
            let mut waiting = guard(&self.waiting);
            waiting.bytes += frame.len();
            waiting.frames.push_back((to, frame));
            while waiting.bytes > self.max_bytes && waiting.frames.len() > 1 {
                let Some((_, oldest)) = waiting.frames.pop_front() else { break };
                waiting.bytes -= oldest.len();
                waiting.dropped += 1;
            }
        }
        self.filled.notify_one();
    }

    /// Waits for frames, and takes those that go out together.
    pub(super) async fn take(&self) -> Vec<(To, Bytes)> {
        loop {
            let taken = self.take_some();
            if !taken.is_empty() {
                return taken;
            }
            self.filled.notified().await;
        }
    }

    fn take_some(&self) -> Vec<(To, Bytes)> {
        let mut waiting = guard(&self.waiting);
        let dropped = std::mem::take(&mut waiting.dropped);
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "frames for other replicas were dropped: the wire is too slow or was down too long"
            );
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while bytes < TOGETHER
            && let Some((to, frame)) = waiting.frames.pop_front()
        {
            bytes += frame.len();
            waiting.bytes -= frame.len();
            taken.push((to, frame));
        }
        taken
    }
}

/// Frames that were taken to be sent, and perhaps are not: they are tried once more on the next connection.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) frames: Vec<(To, Bytes)>,
    tries: u8,
}

impl Batch {
    /// Waits for frames, unless there are some that were tried once.
    pub(super) async fn fill(&mut self, outgoing: &Outgoing) {
        self.tries += 1;
        if self.frames.is_empty() || self.tries > 2 {
            *self = Self { frames: outgoing.take().await, tries: 1 };
        }
    }

    pub(super) fn is_sent(&mut self) {
        self.frames.clear();
    }
}

/// What one replica says to others.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) replica: ReplicaId,
    pub(super) outgoing: Arc<Outgoing>,
}

impl Sender {
    pub(super) fn to_all(&self, said: impl IntoIterator<Item = Said>) {
        for said in said {
            self.outgoing.push(To::All, self.written(said));
        }
    }

    pub(super) fn to(&self, replicas: &[ReplicaId], said: Said) {
        if replicas.is_empty() {
            return;
        }
        let frame = self.written(said);
        for replica in replicas {
            self.outgoing.push(To::One(*replica), frame.clone());
        }
    }

    fn written(&self, said: Said) -> Bytes {
        Frame { from: self.replica, said }.encode()
    }
}

/// Tries to connect, for ever: each failure is followed by a longer pause, and only the first is told.
pub(super) struct Tries {
    pause: Duration,
    is_told: bool,
}

impl Tries {
    pub(super) fn new() -> Self {
        Self { pause: PAUSES.0, is_told: false }
    }

    pub(super) fn succeed(&mut self) {
        *self = Self::new();
    }

    pub(super) async fn fail(&mut self, lost: impl Display) {
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(%lost, "the wire to other replicas is down; what they say is not heard until it is up");
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_frames_go_when_too_many_wait() {
        let outgoing = Outgoing::new(10);
        for n in [1_u8, 2, 3, 4] {
            outgoing.push(To::All, Bytes::from(vec![n; 4]));
        }
        let left: Vec<u8> = outgoing.take().await.iter().map(|(_, frame)| frame[0]).collect();
        assert_eq!(left, [3, 4]);
        outgoing.push(To::All, Bytes::from(vec![5; 50]));
        assert_eq!(outgoing.take().await.len(), 1, "one that is larger than the bound is carried all the same");
    }
}
