//! Runs that have ended here, kept for a while to answer those who ask late.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use threadyard_core::{bus::Closing, ids::RunId};
use tokio::time::Instant;

use super::holding::Held;

/// How many are kept at most, however small they are.
const MOST: usize = 10_000;

/// The runs that ended lately, within a bound over all: what is oldest goes first.
pub(super) struct Ended {
    max_bytes: usize,
    kept_for: Duration,
    runs: HashMap<RunId, End>,
    order: VecDeque<(RunId, Instant)>,
    bytes: usize,
}

/// A run's end, and what was said for it here.
pub(super) struct End {
    pub(super) held: Option<Held>,
    pub(super) closing: Closing,
    at: Instant,
    bytes: usize,
}

impl Ended {
    pub(super) fn new(max_bytes: usize, kept_for: Duration) -> Self {
        Self { max_bytes, kept_for, runs: HashMap::new(), order: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn keep(&mut self, run: RunId, held: Option<Held>, closing: Closing, at: Instant) {
        self.forget(run);
        let said = held.as_ref().map_or(0, |held| held.log.kept_bytes());
        let bytes = said + closing.result.as_ref().map_or(0, bytes::Bytes::len);
        self.bytes += bytes;
        self.runs.insert(run, End { held, closing, at, bytes });
        self.order.push_back((run, at));
        while self.bytes > self.max_bytes || self.order.len() > MOST {
            let Some((oldest, kept_at)) = self.order.pop_front() else { return };
            self.forget_of(oldest, kept_at);
        }
    }

    pub(super) fn get(&self, run: RunId) -> Option<&End> {
        self.runs.get(&run)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (RunId, &End)> {
        self.runs.iter().map(|(run, end)| (*run, end))
    }

    /// Forgets a run, such as one that goes on after all.
    pub(super) fn forget(&mut self, run: RunId) {
        if let Some(end) = self.runs.remove(&run) {
            self.bytes -= end.bytes;
        }
    }

    /// Forgets those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((run, at)) = self.order.front().copied() {
            if now.duration_since(at) < self.kept_for {
                return;
            }
            self.order.pop_front();
            self.forget_of(run, at);
        }
    }

    /// Forgets a run unless it ended again since.
    fn forget_of(&mut self, run: RunId, at: Instant) {
        if self.runs.get(&run).is_some_and(|end| end.at == at) {
            self.forget(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;

    fn run(n: u128) -> RunId {
        RunId(Uuid::from_u128(n))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_in_bytes_and_in_time() {
        let mut ended = Ended::new(10, Duration::from_mins(1));
        for n in 1..=3 {
            let closing = Closing { result: Some(Bytes::from_static(b"1234")) };
            ended.keep(run(n), None, closing, Instant::now());
            tokio::time::advance(Duration::from_secs(20)).await;
        }
        assert!(ended.get(run(1)).is_none() && ended.get(run(2)).is_some());
        ended.keep(run(2), None, Closing::default(), Instant::now());
        ended.expire(Instant::now() + Duration::from_secs(40));
        assert!(ended.get(run(3)).is_none() && ended.get(run(2)).is_some());
        assert_eq!(ended.bytes, 0);
        ended.expire(Instant::now() + Duration::from_mins(1));
        assert!(ended.runs.is_empty() && ended.order.is_empty());
    }
}
