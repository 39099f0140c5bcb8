//! Which runs other replicas follow, and which threads they watch, as far as they said so lately.

use std::collections::HashMap;

use threadyard_core::ids::{RunId, ThreadId};
use tokio::time::Instant;

use super::frames::ReplicaId;

/// What other replicas want to hear.
#[derive(Default)]
pub(super) struct Wants {
    runs: HashMap<RunId, Vec<Wanted>>,
    threads: HashMap<ThreadId, Vec<(ReplicaId, Instant)>>,
}

/// A run that a replica wants to hear.
struct Wanted {
    replica: ReplicaId,
    /// Where what is said here was when it first wanted it.
    base: u64,
    until: Instant,
}

impl Wants {
    /// Notes that a replica wants a run until then. Returns where it was when the replica first did.
    pub(super) fn want(&mut self, run: RunId, replica: ReplicaId, now_at: u64, until: Instant) -> u64 {
        let wanted = self.runs.entry(run).or_default();
        if let Some(known) = wanted.iter_mut().find(|known| known.replica == replica) {
            known.until = until;
            return known.base;
        }
        wanted.push(Wanted { replica, base: now_at, until });
        now_at
    }

    pub(super) fn unwant(&mut self, run: RunId, replica: ReplicaId) {
        if let Some(wanted) = self.runs.get_mut(&run) {
            wanted.retain(|known| known.replica != replica);
            if wanted.is_empty() {
                self.runs.remove(&run);
            }
        }
    }

    /// Who wants a run.
    pub(super) fn of(&self, run: RunId) -> Vec<ReplicaId> {
        self.runs.get(&run).into_iter().flatten().map(|wanted| wanted.replica).collect()
    }

    /// Who wanted a run that has ended.
    pub(super) fn take(&mut self, run: RunId) -> Vec<ReplicaId> {
        self.runs.remove(&run).into_iter().flatten().map(|wanted| wanted.replica).collect()
    }

    /// A run begins to be said here: whoever wants it wants all of it.
    pub(super) fn begin(&mut self, run: RunId) {
        for wanted in self.runs.get_mut(&run).into_iter().flatten() {
            wanted.base = 0;
        }
    }

    pub(super) fn watch(&mut self, thread: ThreadId, replica: ReplicaId, until: Instant) {
        let watching = self.threads.entry(thread).or_default();
        match watching.iter_mut().find(|(known, _)| *known == replica) {
            Some((_, known)) => *known = until,
            None => watching.push((replica, until)),
        }
    }

    pub(super) fn unwatch(&mut self, thread: ThreadId, replica: ReplicaId) {
        if let Some(watching) = self.threads.get_mut(&thread) {
            watching.retain(|(known, _)| *known != replica);
            if watching.is_empty() {
                self.threads.remove(&thread);
            }
        }
    }

    /// Who watches a thread wants the run that begins on it.
    pub(super) fn begin_on(&mut self, thread: ThreadId, run: RunId) {
        for (replica, until) in self.threads.get(&thread).cloned().unwrap_or_default() {
            self.want(run, replica, 0, until);
        }
    }

    /// Forgets what was not said again in time.
    pub(super) fn expire(&mut self, now: Instant) {
        self.runs.retain(|_, wanted| {
            wanted.retain(|wanted| wanted.until > now);
            !wanted.is_empty()
        });
        self.threads.retain(|_, watching| {
            watching.retain(|(_, until)| *until > now);
            !watching.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_not_said_again_in_time_is_forgotten() {
        let (run, thread) = (RunId(Uuid::nil()), ThreadId(Uuid::nil()));
        let [first, second] = [1, 2].map(|n| ReplicaId(Uuid::from_u128(n)));
        let now = Instant::now();
        let [soon, later] = [1, 2].map(|seconds| now + Duration::from_secs(seconds));
        let mut wants = Wants::default();
        assert_eq!(wants.want(run, first, 3, soon), 3);
        assert_eq!(wants.want(run, first, 9, later), 3, "it wanted it from the first time on");
        wants.want(run, second, 0, soon);
        wants.watch(thread, second, soon);
        wants.expire(soon);
        assert_eq!(wants.of(run), [first]);
        wants.begin_on(thread, run);
        assert_eq!(wants.take(run), [first]);
        wants.expire(later);
        assert!(wants.runs.is_empty() && wants.threads.is_empty());
    }
}
