//! The runs that are said elsewhere and heard here: in order, each event once, and what is lost on the way is asked for
//! again.

use std::{collections::HashMap, sync::Arc, time::Duration};

use threadyard_core::{
    bus::{Closing, EventBus, From},
    ids::{RunId, ThreadId},
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    frames::{Closed, Events, LogId, Place, Said, Want, Watch},
    local::LocalBus,
    log::Log,
    shared::SharedBusConfig,
};

/// How many wants share a frame.
const TOGETHER: usize = 256;
/// How many replicas' words are told apart for one run.
const MOST_LOGS: usize = 8;
/// How long to wait for what was lost, once it is known that the run has ended.
const PATIENCE: Duration = Duration::from_secs(3);
/// The time between two questions for what was lost.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What this replica hears from others.
pub(super) struct Following {
    refresh: Duration,
    kept_for: Duration,
    runs: HashMap<RunId, Followed>,
    watched: HashMap<ThreadId, Watched>,
    /// Runs whose end was heard, so that late frames do not begin them again.
    over: HashMap<RunId, Instant>,
    /// Runs that others are to be asked for, or not any more.
    asks: Vec<RunId>,
    unwanted: Vec<RunId>,
    deserted: mpsc::UnboundedSender<RunId>,
}

/// A run that is said elsewhere.
struct Followed {
    log: Arc<Log>,
    from: From,
    /// What was heard of each replica that speaks for the run.
    has: Vec<Place>,
    /// Something of this one was lost on the way.
    missed: Option<LogId>,
    heard: Instant,
    asked: Option<Instant>,
    /// It has ended, but not everything before the end is here.
    closing: Option<(Place, Closing, Instant)>,
}

/// A thread that is watched here.
struct Watched {
    watches: usize,
    since: Instant,
}

impl Followed {
    fn new(log: Arc<Log>, from: From, now: Instant) -> Self {
        Self { log, from, has: Vec::new(), missed: None, heard: now, asked: None, closing: None }
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

    /// Takes what is new of a part. Says whether something before it was lost on the way.
    fn take(&mut self, local: &LocalBus, said: Events) -> bool {
        let next = self.next_in(said.log, said.follows);
        if said.follows > next {
            return self.missed.replace(said.log).is_none();
        }
        let (run, end) = (said.run, Place { log: said.log, next: said.end().max(next) });
        let (is_new, awaits_other) = (said.end() > next, self.missed.is_some_and(|log| log != said.log));
        // Nobody has what is between, or what another replica was asked for does not come.
        if said.place > next || (awaits_other && is_new) {
            self.log.miss();
        }
        if is_new || !awaits_other {
            self.missed = None;
        }
        self.reach(end);
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

    fn is_complete(&self, end: Place) -> bool {
        self.next_in(end.log, end.next) >= end.next
    }
}

impl Following {
    pub(super) fn new(config: &SharedBusConfig, deserted: mpsc::UnboundedSender<RunId>) -> Self {
        Self {
            refresh: config.refresh,
            kept_for: config.ended_for,
            runs: HashMap::new(),
            watched: HashMap::new(),
            over: HashMap::new(),
            asks: Vec::new(),
            unwanted: Vec::new(),
            deserted,
        }
    }

    /// Follows a run from now on.
    pub(super) fn begin(&mut self, run: RunId, log: Arc<Log>, from: From) {
        log.report_desertion(run, self.deserted.clone());
        self.over.remove(&run);
        self.runs.insert(run, Followed::new(log, from, Instant::now()));
        self.asks.push(run);
    }

    /// Follows a run no more, because this replica speaks for it or because it is over.
    pub(super) fn end(&mut self, run: RunId) {
        if self.runs.remove(&run).is_some_and(|followed| followed.asked.is_some()) {
            self.unwanted.push(run);
        }
    }

    /// Does not begin a run again of which late frames arrive.
    pub(super) fn is_over(&mut self, run: RunId, now: Instant) {
        self.over.insert(run, now);
    }

    /// A run's last reader has left.
    pub(super) fn desert(&mut self, local: &LocalBus, run: RunId) {
        let Some(followed) = self.runs.get(&run) else { return };
        if !self.watched.contains_key(&followed.log.thread) && local.forget(run) {
            self.end(run);
        }
    }

    pub(super) fn watch(&mut self, thread: ThreadId) -> Option<Said> {
        let watched = self.watched.entry(thread).or_insert_with(|| Watched { watches: 0, since: Instant::now() });
        watched.watches += 1;
        (watched.watches == 1).then(|| Said::Watch(vec![Watch { thread, missed_ms: 0 }]))
    }

    pub(super) fn unwatch(&mut self, thread: ThreadId) -> Option<Said> {
        let watched = self.watched.get_mut(&thread)?;
        watched.watches -= 1;
        if watched.watches > 0 {
            return None;
        }
        self.watched.remove(&thread);
        Some(Said::Unwatch(thread))
    }

    /// A run said something elsewhere.
    pub(super) fn hear(&mut self, local: &LocalBus, said: Events, now: Instant) {
        let run = said.run;
        let Some(followed) = self.known_or_watched(local, run, said.thread) else { return };
        followed.heard = now;
        if followed.take(local, said) {
            self.asks.push(run);
            return;
        }
        let complete = followed
            .closing
            .take_if(|(end, ..)| followed.has.iter().any(|it| it.log == end.log && it.next >= end.next));
        if let Some((_, closing, _)) = complete {
            self.close(local, run, closing, now);
        }
    }

    /// A run ended elsewhere.
    pub(super) fn hear_end(&mut self, local: &LocalBus, closed: Closed, now: Instant) {
        let (run, said) = (closed.run, closed.said);
        let followed = match said {
            Some((thread, _)) => self.known_or_watched(local, run, thread),
            None => self.runs.get_mut(&run),
        };
        let Some(followed) = followed else { return };
        followed.heard = now;
        match said {
            Some((_, end)) if !followed.is_complete(end) => {
                followed.missed = Some(end.log);
                followed.closing.get_or_insert((end, closed.closing(), now));
                self.asks.push(run);
            }
            _ => self.close(local, run, closed.closing(), now),
        }
    }

    /// The followed run; one that is new here is followed when its thread is watched.
    fn known_or_watched(&mut self, local: &LocalBus, run: RunId, thread: ThreadId) -> Option<&mut Followed> {
        if !self.runs.contains_key(&run) {
            if !self.watched.contains_key(&thread) || self.over.contains_key(&run) || local.log(run).is_some() {
                return None;
            }
            self.begin(run, local.opened(run, thread), From::Start);
        }
        self.runs.get_mut(&run)
    }

    fn close(&mut self, local: &LocalBus, run: RunId, closing: Closing, now: Instant) {
        if let Some(followed) = self.runs.remove(&run)
            && followed.missed.is_some()
        {
            followed.log.miss();
        }
        self.is_over(run, now);
        local.close(run, closing);
    }

    /// What others are to be told at once.
    pub(super) fn news(&mut self, now: Instant) -> Vec<Said> {
        let unwanted = std::mem::take(&mut self.unwanted);
        let asks = std::mem::take(&mut self.asks);
        let mut news = self.ask(asks, now);
        news.extend((!unwanted.is_empty()).then_some(Said::Unwant(unwanted)));
        news
    }

    /// What others are to be told again, so that they do not forget it.
    pub(super) fn tick(&mut self, local: &LocalBus, now: Instant) -> Vec<Said> {
        self.over.retain(|_, at| now.duration_since(*at) < self.kept_for);
        let late = |followed: &Followed| {
            followed.closing.as_ref().is_some_and(|(_, _, since)| now.duration_since(*since) > PATIENCE)
        };
        let ended: Vec<_> = self.runs.iter().filter(|(_, followed)| late(followed)).map(|(run, _)| *run).collect();
        for run in ended {
            if let Some((_, closing, _)) = self.runs.get_mut(&run).and_then(|followed| followed.closing.take()) {
                self.close(local, run, closing, now);
            }
        }
        let deserted: Vec<_> = self.runs.iter().filter(|(_, it)| !it.log.has_readers()).map(|(run, _)| *run).collect();
        for run in deserted {
            self.desert(local, run);
        }
        let (refresh, ask_again) = (self.refresh, ASK_AGAIN.min(self.refresh));
        let due = |followed: &Followed| {
            let every = if followed.missed.is_some() { ask_again } else { refresh };
            followed.asked.is_none_or(|asked| now.duration_since(asked) >= every)
        };
        let due: Vec<_> = self.runs.iter().filter(|(_, followed)| due(followed)).map(|(run, _)| *run).collect();
        self.ask(due, now)
    }

    /// Everything that is followed and watched here, for replicas that may not know.
    pub(super) fn all(&mut self, now: Instant) -> Vec<Said> {
        let mut all = self.ask(self.runs.keys().copied().collect(), now);
        all.extend(self.watches(|watched| now.duration_since(watched.since)));
        all
    }

    /// The threads that are watched here, so that others do not forget it.
    pub(super) fn watches_again(&self) -> Vec<Said> {
        self.watches(|_| Duration::ZERO)
    }

    /// The runs of which nobody has said anything for so long.
    pub(super) fn unheard(&self, now: Instant, long: Duration) -> Vec<RunId> {
        let unheard = |followed: &Followed| now.duration_since(followed.heard) >= long;
        self.runs.iter().filter(|(_, followed)| unheard(followed)).map(|(run, _)| *run).collect()
    }

    fn ask(&mut self, runs: Vec<RunId>, now: Instant) -> Vec<Said> {
        let mut wants = Vec::new();
        for run in runs {
            let Some(followed) = self.runs.get_mut(&run) else { continue };
            followed.asked = Some(now);
            wants.push(Want::new(run, followed.from, followed.has.clone()));
        }
        wants.chunks(TOGETHER).map(|wants| Said::Want(wants.to_vec())).collect()
    }

    fn watches(&self, missed: impl Fn(&Watched) -> Duration) -> Vec<Said> {
        let watch = |(thread, watched): (&ThreadId, &Watched)| {
            let missed_ms = u64::try_from(missed(watched).as_millis()).unwrap_or(u64::MAX);
            Watch { thread: *thread, missed_ms }
        };
        let watches: Vec<_> = self.watched.iter().map(watch).collect();
        watches.chunks(TOGETHER).map(|watches| Said::Watch(watches.to_vec())).collect()
    }
}
