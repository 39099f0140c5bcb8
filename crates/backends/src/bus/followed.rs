//! One run that is said elsewhere and heard here: in order, each event once, and what is lost on the way is noticed.

use std::{sync::Arc, time::Duration};

use threadyard_core::{
    bus::{Closing, EventBus, From},
    ids::RunId,
};
use tokio::time::Instant;

use super::{
    frames::{Closed, Events, LogId, Place, Want},
    local::LocalBus,
    log::Log,
};

/// How many replicas' words are told apart.
const MOST_LOGS: usize = 8;
/// How long to wait for what is missing, once it is known that the run has ended.
const PATIENCE: Duration = Duration::from_secs(3);

/// A run that is said elsewhere.
pub(super) struct Followed {
    pub(super) log: Arc<Log>,
    from: From,
    /// What was heard of each replica that speaks for the run.
    has: Vec<Place>,
    /// Something of this one was lost on the way.
    pub(super) missed: Option<LogId>,
    pub(super) heard: Instant,
    pub(super) asked: Option<Instant>,
    end: Option<End>,
}

/// The end of a run that something is missing before.
struct End {
    closing: Closing,
    since: Instant,
}

impl Followed {
    pub(super) fn new(log: Arc<Log>, from: From, now: Instant) -> Self {
        Self { log, from, has: Vec::new(), missed: None, heard: now, asked: None, end: None }
    }

    /// What others are asked for.
    pub(super) fn want(&self, run: RunId) -> Want {
        Want::new(run, self.from, self.has.clone())
    }

    /// Takes what is new of a part. Says whether something before it was lost on the way.
    pub(super) fn take(&mut self, local: &LocalBus, said: Events) -> bool {
        let next = self.next_in(said.log, said.follows);
        if said.follows > next {
            return self.missed.replace(said.log).is_none();
        }
        let (run, reached) = (said.run, Place { log: said.log, next: said.end().max(next) });
        let (is_new, awaits_other) = (said.end() > next, self.missed.is_some_and(|log| log != said.log));
        // Nobody has what is between, or what another replica was asked for does not come.
        if said.place > next || (awaits_other && is_new) {
            self.log.miss();
        }
        if is_new || !awaits_other {
            self.missed = None;
        }
        self.reach(reached);
        let (first, events) = said.behind(next);
        if !events.is_empty() {
            // Kept events are numbered through over all attempts. Others begin anew with each attempt at another replica,
            // and are numbered through here; such ids are shown to nobody.
            let next_id = self.log.next_id();
            let begins = self.log.end() == 0;
            let goes_on = first.epoch_ms == next_id.epoch_ms && first >= next_id;
            local.append(run, if begins || goes_on { first } else { next_id }, events);
        }
        false
    }

    /// The run has ended. Returns what it closes with, unless something is missing.
    pub(super) fn end(&mut self, closed: Closed, now: Instant) -> Option<Closing> {
        let place = closed.said.map(|(_, place)| place);
        let closing = closed.closing();
        let is_complete = place.is_none_or(|place| self.next_in(place.log, place.next) >= place.next);
        // Who did not execute the run may know of its end before the one that did has said with what.
        let is_hearsay =
            closing.result.is_none() && self.has.iter().any(|known| place.is_none_or(|it| it.log != known.log));
        if is_complete && !is_hearsay {
            return Some(closing);
        }
        if !is_complete {
            self.missed = place.map(|place| place.log);
        }
        // Whoever holds the run is asked, and answers with what is missing and with the end.
        match &mut self.end {
            Some(end) if end.closing.result.is_none() => end.closing = closing,
            Some(_) => {}
            None => self.end = Some(End { closing, since: now }),
        }
        None
    }

    /// What the run closes with, when it takes too long to hear what is missing.
    pub(super) fn ended(&mut self, now: Instant) -> Option<Closing> {
        self.end.take_if(|end| now.duration_since(end.since) > PATIENCE).map(|end| end.closing)
    }

    /// The place in this log up to which everything is here; `base` where the log is new to a reader of what is new.
    fn next_in(&self, log: LogId, base: u64) -> u64 {
        match self.has.iter().find(|place| place.log == log) {
            Some(place) => place.next,
            None if self.from == From::Now && self.has.is_empty() => base,
            None => 0,
        }
    }

    fn reach(&mut self, reached: Place) {
        if let Some(place) = self.has.iter_mut().find(|place| place.log == reached.log) {
            place.next = place.next.max(reached.next);
            return;
        }
        if self.has.len() == MOST_LOGS {
            self.has.remove(0);
        }
        self.has.push(reached);
    }
}
