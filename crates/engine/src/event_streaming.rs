//! Event streaming (protocol v2): the tape of a thread, as one connection sees it.
//!
//! The runs of a thread speak one after the other, and a reader goes through them: first what is kept, then what comes.
//! Readers that share a connection share a tape, so that they hear everything in order, and each event once.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use threadyard_core::{
    bus::{From, Subscription, ThreadWatch},
    event_streaming::{BEGINNING, EventFilter, EventName, event_id},
    ids::{RunId, ThreadId},
    runs::Run,
    storage::StorageError,
    stream::{EventId, StreamEvent},
};

use crate::{Engine, Error, Result, RunStream, thread_stream::Sight};

mod commands;
mod messages;
mod ordinary;
mod tree;

pub use commands::{Answers, ForkRun, StartRun};
use ordinary::Ordinary;
pub use tree::GraphTree;

/// An event of a thread's tape that a reader wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapeEvent {
    /// The same whenever and wherever it is read.
    pub id: String,
    /// Where it is on the tape. Grows along it.
    pub seq: u64,
    /// What kind of event it is.
    pub method: String,
    /// The event behind [`BEGINNING`].
    rest: Bytes,
}

impl TapeEvent {
    fn of(run: RunId, place: &str, seq: u64, event: &StreamEvent) -> Option<Self> {
        if !event.data.starts_with(BEGINNING) {
            return None;
        }
        let method = EventName::of(&event.name).method.to_owned();
        let id = event_id(&method, run, place);
        Some(Self { id, seq, method, rest: event.data.slice(BEGINNING.len()..) })
    }

    /// Writes the event as clients read it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(BEGINNING);
        out.extend_from_slice(format!(r#""event_id":"{}","seq":{},"#, self.id, self.seq).as_bytes());
        out.extend_from_slice(&self.rest);
    }
}

/// What somebody wants of a tape.
struct Reader {
    filter: EventFilter,
    /// Only what is behind this place.
    since: u64,
}

/// A place on the tape of a thread.
pub struct Tape {
    engine: Engine,
    thread_id: ThreadId,
    readers: Vec<Reader>,
    watch: Box<dyn ThreadWatch>,
    sight: Sight,
    /// Runs that had begun when the reader came.
    waiting: VecDeque<Run>,
    /// A run that began since, and is to be opened.
    beginning: Option<(RunId, Box<dyn Subscription>)>,
    current: Option<Current>,
    /// The runs that were read or wait: the watch tells again of some.
    known: HashSet<RunId>,
    /// Behind which event it is.
    after: u64,
}

struct Current {
    run: Run,
    stream: RunStream,
    ordinary: Option<Ordinary>,
}

impl Engine {
    /// Reads the tape of a thread behind a place, 0 being its start. A thread that does not exist has nothing to say yet.
    pub async fn read_tape(&self, thread_id: ThreadId, filter: EventFilter, since: u64) -> Result<Tape> {
        self.tape(thread_id, vec![Reader { filter, since }]).await
    }

    async fn tape(&self, thread_id: ThreadId, mut readers: Vec<Reader>) -> Result<Tape> {
        if readers.iter().any(|reader| reader.since > 0) {
            // Nobody has heard what nobody has said: who comes behind that begins at the end.
            let end = self.storage.tape_end(thread_id).await?;
            for reader in &mut readers {
                reader.since = reader.since.min(end);
            }
        }
        let after = readers.iter().map(|reader| reader.since).min().unwrap_or(0);
        // Watched before the rows are read, so that no run is missed.
        let watch = self.bus.watch(thread_id);
        let sight = self.sight(thread_id).await?;
        let mut told = if sight.sees().await? { self.storage.told_runs(thread_id, after).await? } else { Vec::new() };
        // What other runs said has no place on the tape: whoever has read some of it may have heard them.
        told.retain(|run| after == 0 || run.kwargs.event_streaming() || !run.status.is_terminal());
        let known = told.iter().map(|run| run.run_id).collect();
        let (engine, waiting) = (self.clone(), told.into());
        Ok(Tape { engine, thread_id, readers, watch, sight, waiting, beginning: None, current: None, known, after })
    }
}

impl Tape {
    /// The tape for one more reader, who wants what is behind a place. Those that it had go on where they are.
    pub fn joined(&self, filter: EventFilter, since: u64) -> impl Future<Output = Result<Self>> + Send + use<> {
        let stay = |it: &Reader| Reader { filter: it.filter.clone(), since: it.since.max(self.after) };
        let readers = self.readers.iter().map(stay).chain([Reader { filter, since }]).collect();
        let (engine, thread_id) = (self.engine.clone(), self.thread_id);
        async move { engine.tape(thread_id, readers).await }
    }

    /// Has one reader less, by its place among those that joined.
    pub fn leave(&mut self, place: usize) {
        self.readers.remove(place);
    }

    /// Waits for the next events that are wanted. `None` when the reader can't go on here and has to come back behind its
    /// last event. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Vec<TapeEvent>> {
        loop {
            match if self.current.is_none() { self.open_next().await } else { Ok(()) } {
                Ok(()) => {}
                // What can't be decrypted is a gap, and not the end.
                Err(Error::Sealing(why)) if self.passed_over() => {
                    tracing::error!(why, thread_id = %self.thread_id, "a run can't be decrypted, and is left out");
                }
                Err(error) => {
                    tracing::warn!(%error, "the events of a thread can't be read on");
                    return None;
                }
            }
            let Some(current) = &mut self.current else { continue };
            let wanted = match current.stream.next().await {
                Some((Some(first), events)) => self.wanted(first, &events),
                // The reader is too far behind, or storage is away.
                Some((None, _)) => return None,
                None => match self.ended().await {
                    Ok(events) => events,
                    Err(_) => return None,
                },
            };
            if !wanted.is_empty() {
                return Some(wanted);
            }
        }
    }

    async fn open_next(&mut self) -> Result<()> {
        if let Some(run) = self.waiting.front().cloned() {
            let from = if run.kwargs.resumable { From::Now } else { From::Start };
            let live = self.engine.follow(&run, from).await?;
            self.waiting.pop_front();
            self.open(run, live);
            return Ok(());
        }
        if self.beginning.is_none() {
            let next = self.watch.next().await;
            self.beginning = self.known.insert(next.0).then_some(next);
        }
        let Some((run_id, _)) = &self.beginning else { return Ok(()) };
        let run = self.engine.storage.run_by_id(*run_id).await?;
        // A thread may come to be, or change hands, while somebody listens.
        let seen = self.sight.sees().await?;
        let live = self.beginning.take().map(|(_, live)| live);
        // One that is not there any more was undone.
        if let Some(run) = run.filter(|_| seen) {
            self.open(run, live);
        }
        Ok(())
    }

    /// Whether there was a run to be opened, which is not any more.
    fn passed_over(&mut self) -> bool {
        self.waiting.pop_front().is_some() || self.beginning.take().is_some()
    }

    fn open(&mut self, run: Run, live: Option<Box<dyn Subscription>>) {
        let ordinary = (!run.kwargs.event_streaming()).then(|| Ordinary::of(&run));
        let after = if ordinary.is_some() { 0 } else { self.after };
        let stream = self.engine.replayed_stream(&run, live, after).leaping();
        self.current = Some(Current { run, stream, ordinary });
    }

    fn wanted(&mut self, first: EventId, events: &[StreamEvent]) -> Vec<TapeEvent> {
        let Some(current) = &mut self.current else { return Vec::new() };
        if let Some(ordinary) = &mut current.ordinary {
            let wants = wants(&self.readers, &current.run);
            return ordinary.events(first, events, wants, self.after);
        }
        let mut wanted = Vec::new();
        for (event, seq) in events.iter().zip(first.seq..) {
            let name = EventName::of(&event.name);
            let wants = |reader: &Reader| seq > reader.since && reader.filter.wants(&name);
            if seq <= self.after || !self.readers.iter().any(wants) {
                continue;
            }
            wanted.extend(TapeEvent::of(current.run.run_id, &seq.to_string(), seq, event));
        }
        self.after = self.after.max(first.seq + events.len() as u64 - 1);
        wanted
    }

    /// What is to be said of a run whose stream has ended.
    async fn ended(&mut self) -> Result<Vec<TapeEvent>> {
        let Some(Current { run, ordinary: Some(ordinary), .. }) = &mut self.current else {
            self.current = None;
            return Ok(Vec::new());
        };
        let left = match self.engine.storage.run_by_id(run.run_id).await {
            // Where it stood when it was found, without what can't be read.
            Err(StorageError::Sealing(_)) => Some(Run { error: None, ..run.clone() }),
            left => left?,
        };
        let thread = match self.engine.storage.thread(run.thread_id).await {
            Err(StorageError::Sealing(_)) => None,
            thread => thread?,
        };
        let (stands, now) = ((left.as_ref(), thread.as_ref()), self.engine.ambient.now());
        let last = ordinary.last(stands, now, wants(&self.readers, run), self.after);
        self.current = None;
        Ok(last)
    }
}

/// Which events of an ordinary run are wanted. Of one that had ended, those who have read some of the tape may have heard.
fn wants(readers: &[Reader], run: &Run) -> impl Fn(&EventName<'_>) -> bool {
    let over = run.status.is_terminal();
    move |name| readers.iter().any(|reader| (reader.since == 0 || !over) && reader.filter.wants(name))
}
