//! The runs that are said here, and the replicas elsewhere that hear them: nothing goes out that nobody asked for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use threadyard_core::{
    bus::{Closing, EventBus},
    ids::RunId,
    stream::{EventId, StreamEvent},
};
use tokio::time::Instant;

use super::{
    ended::{End, Ended},
    frames::{Closed, Events, LogId, Place, ReplicaId, Said, Want, Watch},
    local::LocalBus,
    log::Log,
    shared::SharedBusConfig,
    wants::Wants,
    wire::Sender,
};

/// What this replica holds for others.
pub(super) struct Holding {
    sender: Sender,
    kept_bytes: usize,
    wanted_for: Duration,
    held: HashMap<RunId, Held>,
    wants: Wants,
    ended: Ended,
}

/// A run that is said here.
pub(super) struct Held {
    pub(super) id: LogId,
    pub(super) log: Arc<Log>,
    /// Where this replica began to speak; what is before came from others.
    start: u64,
    /// When it said its first word.
    began: Option<Instant>,
    /// How many attempts here may speak: one that is over may notice late.
    speakers: usize,
}

impl Held {
    /// The place behind what was said.
    pub(super) fn end(&self) -> Place {
        Place { log: self.id, next: self.log.end() - self.start }
    }

    /// What was said from `next` on, as far as it is kept.
    fn since(&self, run: RunId, next: u64, max_bytes: usize) -> Said {
        let follows = next.min(self.end().next);
        let part = self.log.part(self.start + follows, max_bytes);
        let at = Place { log: self.id, next: part.place - self.start };
        Said::Events(Events::new((run, self.log.thread), at, follows, part.first).with(&part.events))
    }

    fn began_after(&self, then: Option<Instant>) -> bool {
        self.began.is_some_and(|began| then.is_none_or(|then| began >= then))
    }
}

impl Holding {
    pub(super) fn new(sender: Sender, config: &SharedBusConfig) -> Self {
        Self {
            sender,
            kept_bytes: config.kept_bytes,
            wanted_for: config.wanted_for,
            held: HashMap::new(),
            wants: Wants::default(),
            ended: Ended::new(config.ended_bytes, config.ended_for),
        }
    }

    /// From now on this replica speaks for the run.
    pub(super) fn hold(&mut self, run: RunId, log: Arc<Log>, id: impl FnOnce() -> LogId) {
        let held = self.held.entry(run).or_insert_with(|| {
            self.ended.forget(run);
            self.wants.begin(run);
            log.keep(self.kept_bytes);
            Held { id: id(), start: log.end(), log, began: None, speakers: 0 }
        });
        held.speakers += 1;
    }

    /// One attempt less speaks for the run. Returns what was said when none does any more.
    pub(super) fn hand_over(&mut self, run: RunId) -> Option<Arc<Log>> {
        let held = self.held.get_mut(&run)?;
        held.speakers -= 1;
        if held.speakers > 0 {
            return None;
        }
        let log = self.held.remove(&run)?.log;
        log.keep(0);
        Some(log)
    }

    /// Says events to readers here, and to the replicas that want them.
    pub(super) fn append(&mut self, local: &LocalBus, run: RunId, first: EventId, events: Vec<StreamEvent>) {
        let Some(held) = self.held.get_mut(&run) else { return };
        if held.began.is_none() {
            held.began = Some(Instant::now());
            self.wants.begin_on(held.log.thread, run);
        }
        let wanting = self.wants.of(run);
        if !wanting.is_empty() {
            // Whoever wants the run was told everything before.
            let at = held.end();
            let said = Events::new((run, held.log.thread), at, at.next, first).with(&events);
            self.sender.to(&wanting, Said::Events(said));
        }
        local.append(run, first, events);
    }

    /// Tells whoever wants the run that it has ended, and keeps what was said for those who ask late.
    pub(super) fn close(&mut self, run: RunId, closing: Closing, now: Instant) {
        let end = self.held.remove(&run);
        let said = end.as_ref().map(|held| (held.log.thread, held.end()));
        let wanting = self.wants.take(run);
        self.sender.to(&wanting, Said::Closed(Closed::new(run, said, &closing)));
        self.ended.keep(run, end, closing, now);
    }

    /// Another replica follows a run: it is told what it does not have.
    pub(super) fn want(&mut self, replica: ReplicaId, want: &Want, now: Instant) {
        if let Some(end) = self.ended.get(want.run) {
            let next = end.held.as_ref().map(|held| want.next_in(held.id, held.end().next));
            return self.tell_end(replica, want.run, end, next);
        }
        let held = self.held.get(&want.run);
        let at = held.map_or(0, |held| held.end().next);
        let base = self.wants.want(want.run, replica, at, now + self.wanted_for);
        if let Some(held) = held {
            // Said also when there is nothing new, so that the follower knows that somebody holds the run.
            let said = held.since(want.run, want.next_in(held.id, base), self.kept_bytes);
            self.sender.to(&[replica], said);
        }
    }

    pub(super) fn unwant(&mut self, replica: ReplicaId, run: RunId) {
        self.wants.unwant(run, replica);
    }

    /// Another replica watches a thread: it is told of the runs that began lately, and of those that will.
    pub(super) fn watch(&mut self, replica: ReplicaId, watch: &Watch, now: Instant) {
        let until = now + self.wanted_for;
        self.wants.watch(watch.thread, replica, until);
        if watch.missed_ms == 0 {
            return;
        }
        let then = now.checked_sub(Duration::from_millis(watch.missed_ms));
        let missed = |held: &Held| held.log.thread == watch.thread && held.began_after(then);
        for (run, held) in self.held.iter().filter(|(_, held)| missed(held)) {
            self.wants.want(*run, replica, 0, until);
            self.sender.to(&[replica], held.since(*run, 0, self.kept_bytes));
        }
        for (run, end) in self.ended.iter().filter(|(_, end)| end.held.as_ref().is_some_and(missed)) {
            self.tell_end(replica, run, end, Some(0));
        }
    }

    pub(super) fn unwatch(&mut self, replica: ReplicaId, thread: threadyard_core::ids::ThreadId) {
        self.wants.unwatch(thread, replica);
    }

    /// Forgets what others did not ask for again, and what nobody will ask for any more.
    pub(super) fn expire(&mut self, now: Instant) {
        self.wants.expire(now);
        self.ended.expire(now);
    }

    /// Tells one replica how a run ended, and before that what was said from a place on.
    fn tell_end(&self, replica: ReplicaId, run: RunId, end: &End, next: Option<u64>) {
        if let (Some(held), Some(next)) = (&end.held, next) {
            self.sender.to(&[replica], held.since(run, next, self.kept_bytes));
        }
        let said = end.held.as_ref().map(|held| (held.log.thread, held.end()));
        self.sender.to(&[replica], Said::Closed(Closed::new(run, said, &end.closing)));
    }
}
