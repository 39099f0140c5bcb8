//! The runs that are said elsewhere and heard here, the threads that are watched here, and what others are told of both.

use std::{collections::HashMap, sync::Arc, time::Duration};

use threadyard_core::{
    bus::{Closing, EventBus, From},
    ids::{RunId, ThreadId},
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    followed::Followed,
    frames::{Closed, Events, Said, Watch},
    local::LocalBus,
    log::Log,
    shared::SharedBusConfig,
};

/// How many wants share a frame.
const TOGETHER: usize = 256;
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

/// A thread that is watched here.
struct Watched {
    watches: usize,
    since: Instant,
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
        }
    }

    /// A run ended elsewhere.
    pub(super) fn hear_end(&mut self, local: &LocalBus, closed: Closed, now: Instant) {
        let run = closed.run;
        let followed = match closed.said {
            Some((thread, _)) => self.known_or_watched(local, run, thread),
            None => self.runs.get_mut(&run),
        };
        let Some(followed) = followed else { return };
        followed.heard = now;
        match followed.end(closed, now) {
            Some(closing) => self.close(local, run, closing, now),
            None => self.asks.push(run),
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

    pub(super) fn has_news(&self) -> bool {
        !self.asks.is_empty() || !self.unwanted.is_empty()
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
        let ended = |(run, followed): (&RunId, &mut Followed)| Some((*run, followed.ended(now)?));
        let ended: Vec<_> = self.runs.iter_mut().filter_map(ended).collect();
        for (run, closing) in ended {
            self.close(local, run, closing, now);
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
    pub(super) fn all(&self, now: Instant) -> Vec<Said> {
        let mut all = together(self.runs.iter().map(|(run, followed)| followed.want(*run)), Said::Want);
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
            wants.push(followed.want(run));
        }
        together(wants, Said::Want)
    }

    fn watches(&self, missed: impl Fn(&Watched) -> Duration) -> Vec<Said> {
        let watch = |(thread, watched): (&ThreadId, &Watched)| {
            let missed_ms = u64::try_from(missed(watched).as_millis()).unwrap_or(u64::MAX);
            Watch { thread: *thread, missed_ms }
        };
        together(self.watched.iter().map(watch), Said::Watch)
    }
}

/// Frames that hold many of a kind each.
fn together<T: Clone>(all: impl IntoIterator<Item = T>, say: impl Fn(Vec<T>) -> Said) -> Vec<Said> {
    let all: Vec<_> = all.into_iter().collect();
    all.chunks(TOGETHER).map(|some| say(some.to_vec())).collect()
}
