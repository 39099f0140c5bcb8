//! What one run has said as far as somebody may still ask for it, and where its readers are.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use threadyard_core::{
    bus::{Closing, From, Received, Subscription},
    ids::{RunId, ThreadId},
    stream::{EventId, StreamEvent},
};
use tokio::sync::{Notify, mpsc};

use super::local::{guard, interest};

/// What one run has said.
pub(super) struct Log {
    pub(super) thread: ThreadId,
    state: Mutex<LogState>,
    changed: Arc<Notify>,
}

struct LogState {
    events: VecDeque<StreamEvent>,
    /// The place of the first event that is still here; places count what this log has heard.
    first: u64,
    /// The id of the event that comes next.
    next_id: EventId,
    bytes: usize,
    /// How many bytes stay that no reader needs any more.
    spare: usize,
    /// Where the readers are, by their numbers.
    places: HashMap<u64, u64>,
    next_reader: u64,
    /// Whether the run has begun to speak, and those who watch its thread know.
    told: bool,
    closed: Option<Closing>,
    /// Who is to know when the last reader leaves.
    deserted: Option<(RunId, mpsc::UnboundedSender<RunId>)>,
}

/// A part of what a run has said.
pub(super) struct Part {
    /// The place of the first event.
    pub(super) place: u64,
    /// The id of the first event.
    pub(super) first: EventId,
    pub(super) events: Vec<StreamEvent>,
}

impl LogState {
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Adds events. Those that they do not follow on are forgotten, as is what they would be counted with.
    fn add(&mut self, first: EventId, events: Vec<StreamEvent>) {
        if first != self.next_id {
            self.first = self.end();
            self.events.clear();
            self.bytes = 0;
        }
        self.next_id = EventId { seq: first.seq + events.len() as u64, ..first };
        self.bytes += events.iter().map(size).sum::<usize>();
        self.events.extend(events);
    }

    /// Forgets what nobody needs any more, and of the rest what is over the limit.
    fn trim(&mut self, max_bytes: usize) {
        let needed = self.places.values().copied().min().unwrap_or(self.end());
        while let Some(event) = self.events.front() {
            let unneeded = self.first < needed && self.bytes > self.spare;
            if !unneeded && (self.bytes <= max_bytes || self.events.len() == 1) {
                return;
            }
            self.bytes -= size(event);
            self.events.pop_front();
            self.first += 1;
        }
    }
}

impl Log {
    /// A log in which nothing was said yet.
    pub(super) fn new(thread: ThreadId, next_id: EventId) -> Self {
        let state = LogState {
            events: VecDeque::new(),
            first: 0,
            next_id,
            bytes: 0,
            spare: 0,
            places: HashMap::new(),
            next_reader: 0,
            told: false,
            closed: None,
            deserted: None,
        };
        Self { thread, state: Mutex::new(state), changed: Arc::default() }
    }

    pub(super) fn next_id(&self) -> EventId {
        guard(&self.state).next_id
    }

    /// The place of the event that comes next.
    pub(super) fn end(&self) -> u64 {
        guard(&self.state).end()
    }

    /// How much is kept that no reader needs to be there.
    pub(super) fn kept_bytes(&self) -> usize {
        let state = guard(&self.state);
        state.bytes.min(state.spare)
    }

    /// Marks that the run has begun to speak. Says whether that was known.
    pub(super) fn begun(&self) -> bool {
        std::mem::replace(&mut guard(&self.state).told, true)
    }

    pub(super) fn append(&self, first: EventId, events: Vec<StreamEvent>, max_bytes: usize) {
        {
            let mut state = guard(&self.state);
            state.add(first, events);
            state.trim(max_bytes);
        }
        self.changed.notify_waiters();
    }

    pub(super) fn close(&self, closing: Closing) {
        guard(&self.state).closed = Some(closing);
        self.changed.notify_waiters();
    }

    /// Keeps so much of what was said last, whether or not a reader needs it.
    pub(super) fn keep(&self, bytes: usize) {
        let mut state = guard(&self.state);
        state.spare = bytes;
        state.trim(usize::MAX);
    }

    /// Events from `place` on: of those that are here the last ones, as far as they fit.
    pub(super) fn part(&self, place: u64, max_bytes: usize) -> Part {
        let state = guard(&self.state);
        let end = state.end();
        let from = usize::try_from(place.clamp(state.first, end) - state.first).unwrap_or(usize::MAX);
        let (mut begin, mut bytes) = (state.events.len(), 0);
        while begin > from {
            bytes += size(&state.events[begin - 1]);
            if bytes > max_bytes && begin < state.events.len() {
                break;
            }
            begin -= 1;
        }
        let events: Vec<_> = state.events.range(begin..).cloned().collect();
        let first = EventId { seq: state.next_id.seq - events.len() as u64, ..state.next_id };
        Part { place: end - events.len() as u64, first, events }
    }

    /// Notes that something was said that is not here: every reader lags.
    pub(super) fn miss(&self) {
        {
            let mut state = guard(&self.state);
            state.first = state.end() + 1;
            state.events.clear();
            state.bytes = 0;
        }
        self.changed.notify_waiters();
    }

    pub(super) fn has_readers(&self) -> bool {
        !guard(&self.state).places.is_empty()
    }

    /// From now on tells this receiver when the last reader leaves.
    pub(super) fn report_desertion(&self, run: RunId, to: mpsc::UnboundedSender<RunId>) {
        guard(&self.state).deserted = Some((run, to));
    }
}

fn size(event: &StreamEvent) -> usize {
    event.name.len() + event.data.len()
}

/// A place in a run's log.
pub(super) struct Reader {
    log: Arc<Log>,
    id: u64,
    /// The place of the next event to read.
    next: u64,
}

#[async_trait]
impl Subscription for Reader {
    async fn next(&mut self) -> Received {
        loop {
            // Registered before looking, so that no change is missed.
            let changed = interest(&self.log.changed);
            if let Some(received) = self.look() {
                return received;
            }
            changed.await;
        }
    }
}

impl Reader {
    pub(super) fn join(log: Arc<Log>, from: From) -> Self {
        let (id, next) = {
            let mut state = guard(&log.state);
            let next = match from {
                From::Start => 0,
                From::Now => state.end(),
            };
            let id = state.next_reader;
            state.next_reader += 1;
            state.places.insert(id, next);
            (id, next)
        };
        Self { log, id, next }
    }

    fn look(&mut self) -> Option<Received> {
        let mut state = guard(&self.log.state);
        if self.next < state.first {
            self.next = state.first;
            return Some(Received::Lagged);
        }
        let skip = usize::try_from(self.next - state.first).unwrap_or(usize::MAX);
        let new: Vec<_> = state.events.iter().skip(skip).cloned().collect();
        if new.is_empty() {
            return state.closed.clone().map(Received::Closed);
        }
        let first = EventId { seq: state.next_id.seq - new.len() as u64, ..state.next_id };
        self.next += new.len() as u64;
        state.places.insert(self.id, self.next);
        state.trim(usize::MAX);
        Some(Received::Events(first, new))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = guard(&self.log.state);
        state.places.remove(&self.id);
        state.trim(usize::MAX);
        if state.places.is_empty()
            && let Some((run, to)) = &state.deserted
        {
            let _ = to.send(*run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Log {
        Log::new(ThreadId(uuid::Uuid::nil()), EventId { epoch_ms: 5, seq: 1 })
    }

    fn say(log: &Log, names: &[&str]) {
        let events = names.iter().map(|name| StreamEvent { name: (*name).into(), data: "".into() }).collect();
        log.append(log.next_id(), events, usize::MAX);
    }

    fn names(part: &Part) -> Vec<&str> {
        part.events.iter().map(|event| &*event.name).collect()
    }

    #[test]
    fn nothing_stays_that_nobody_needs_unless_it_is_to_be_kept() {
        let (plain, kept) = (log(), log());
        kept.keep(4);
        for log in [&plain, &kept] {
            say(log, &["aa", "bb", "cc"]);
        }
        assert_eq!((plain.part(0, 100).events.len(), kept.kept_bytes()), (0, 4));
        let part = kept.part(0, 100);
        assert_eq!((names(&part), part.place, part.first.seq), (vec!["bb", "cc"], 1, 2));
    }

    #[test]
    fn a_part_holds_the_last_events_that_fit_and_at_least_one() {
        let log = log();
        log.keep(100);
        say(&log, &["aa", "bb", "cc"]);
        assert_eq!(names(&log.part(1, 100)), ["bb", "cc"]);
        assert_eq!(names(&log.part(0, 5)), ["bb", "cc"]);
        assert_eq!(names(&log.part(0, 1)), ["cc"]);
        let nothing = log.part(9, 100);
        assert_eq!((nothing.events.len(), nothing.place, nothing.first.seq), (0, 3, 4));
    }
}
