//! Following a thread: what its runs say, one after the other, for as long as somebody listens.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use serde_json::json;
use threadyard_core::{
    access::Action,
    bus::{From, Subscription, ThreadWatch},
    events::kept_id,
    ids::{RunId, ThreadId},
    metadata_filter::MetadataFilter,
    page::Window,
    runs::{Run, RunQuery, RunStatus},
    storage::Storage,
    stream::{EventId, StreamEvent},
};

use crate::{Engine, Result, RunStream, access::thread_value};

/// What somebody who follows a thread may ask to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadStreamMode {
    /// Everything its runs say.
    RunModes,
    /// That they begin and end.
    Lifecycle,
    /// Changes of its state from outside of runs; nothing says these yet.
    StateUpdate,
}

/// The runs of a thread, as one reader follows them.
pub struct ThreadStream {
    engine: Engine,
    watch: Box<dyn ThreadWatch>,
    sight: Sight,
    modes: Vec<ThreadStreamMode>,
    /// Runs that had begun when the reader came, and of which it has not heard everything.
    waiting: VecDeque<Current>,
    current: Option<Current>,
    /// A run that began since, and is to be opened.
    beginning: Option<(RunId, Box<dyn Subscription>)>,
    /// These wait or were read; the watch may tell of them as well.
    known: HashSet<RunId>,
}

/// Whether a thread is one that the listener may see.
pub(crate) struct Sight {
    storage: Arc<dyn Storage>,
    thread_id: ThreadId,
    visible: MetadataFilter,
}

impl Sight {
    pub(crate) async fn sees(&self) -> Result<bool> {
        if self.visible.is_empty() {
            return Ok(true);
        }
        let thread = self.storage.thread(self.thread_id).await?;
        Ok(thread.is_some_and(|thread| self.visible.admits(&thread.metadata)))
    }
}

struct Current {
    run_id: RunId,
    stream: RunStream,
    /// The id behind the last event.
    next: EventId,
    /// The last event that the reader had when it came.
    heard: EventId,
}

impl Current {
    fn of(run_id: RunId, stream: RunStream) -> Self {
        Self { run_id, stream, next: EventId::START, heard: EventId::START }
    }

    fn behind(self, heard: EventId) -> Self {
        Self { next: EventId { seq: heard.seq + 1, ..heard }, heard, ..self }
    }

    /// What of these events the reader does not have, with the id of the first.
    fn unheard(&mut self, first: EventId, mut events: Vec<StreamEvent>) -> (EventId, Vec<StreamEvent>) {
        let end = first.seq + events.len() as u64;
        self.next = EventId { seq: end, ..first };
        let begin =
            if first.epoch_ms == self.heard.epoch_ms { first.seq.max(self.heard.seq + 1).min(end) } else { first.seq };
        events.drain(..usize::try_from(begin - first.seq).unwrap_or(usize::MAX));
        (EventId { seq: begin, ..first }, events)
    }
}

impl Engine {
    /// What the caller may see of a thread, which need not exist yet.
    pub(crate) async fn sight(&self, thread_id: ThreadId) -> Result<Sight> {
        let visible = self.permit(Action::ThreadsRead, || thread_value(thread_id)).await?.filter;
        Ok(Sight { storage: self.storage.clone(), thread_id, visible })
    }

    /// Follows a thread from now on, or behind an event that the reader has. One that does not exist has nothing to say.
    pub async fn follow_thread(
        &self,
        thread_id: ThreadId,
        modes: Vec<ThreadStreamMode>,
        last: Option<EventId>,
    ) -> Result<ThreadStream> {
        let sight = self.sight(thread_id).await?;
        // Watched before the rows are read, so that no run is missed.
        let watch = self.bus.watch(thread_id);
        let waiting = match (sight.sees().await?, last) {
            (false, _) => VecDeque::new(),
            (true, None) => self.going_on(thread_id).await?,
            (true, Some(last)) => self.unheard_of(thread_id, last).await?,
        };
        let known = waiting.iter().map(|current| current.run_id).collect();
        Ok(ThreadStream { engine: self.clone(), watch, sight, modes, waiting, current: None, beginning: None, known })
    }

    /// The run that goes on, from now on.
    async fn going_on(&self, thread_id: ThreadId) -> Result<VecDeque<Current>> {
        let running = RunQuery { thread_id, status: Some(RunStatus::Running) };
        let open = self.storage.search_runs(running, Window { limit: 1, offset: 0 }).await?;
        let Some(run) = open.rows.into_iter().next() else { return Ok(VecDeque::new()) };
        let live = self.follow(&run, From::Now).await?;
        let going_on = live.map(|live| Current::of(run.run_id, self.stream_of(&run, Some(live), None, Vec::new())));
        Ok(going_on.into_iter().collect())
    }

    /// What is to be heard yet by a reader who has everything up to an event.
    async fn unheard_of(&self, thread_id: ThreadId, last: EventId) -> Result<VecDeque<Current>> {
        let mut runs = self.storage.told_runs(thread_id, 0).await?;
        runs.sort_by_key(|run| run.started_at);
        let speaks = |run: &Run| run.kwargs.resumable && kept_id(run, 0).epoch_ms == last.epoch_ms;
        let spoke = runs.iter().position(speaks);
        let mut unheard = VecDeque::new();
        for (place, run) in runs.iter().enumerate() {
            if !run.kwargs.resumable {
                // It goes on, and what is not held any more is lost.
                let live = self.follow(run, From::Start).await?;
                let current = Current::of(run.run_id, self.stream_of(run, live, None, Vec::new()));
                unheard.push_back(current.behind(last));
                continue;
            }
            let after = match spoke {
                Some(spoke) if place < spoke => continue,
                Some(spoke) if place == spoke => last.seq,
                Some(_) => 0,
                // The reader's run is not kept, or not any more.
                None if run.started_at.is_none_or(|at| at.as_millis() > last.epoch_ms) => 0,
                None => continue,
            };
            // Where nothing is at the reader's place, it is behind the word that the run is done.
            if after > 0
                && run.status.is_terminal()
                && self.storage.kept_events(run.run_id, after - 1).await?.is_empty()
            {
                continue;
            }
            let live = self.follow(run, From::Now).await?;
            let current = Current::of(run.run_id, self.replayed_stream(run, live, after));
            unheard.push_back(current.behind(kept_id(run, after)));
        }
        Ok(unheard)
    }
}

impl ThreadStream {
    /// Waits for the next events, with the id of the first. It never ends by itself, and nothing is lost when the future
    /// is dropped.
    pub async fn next(&mut self) -> (EventId, Vec<StreamEvent>) {
        loop {
            if self.current.is_none() {
                self.current = self.waiting.pop_front();
            }
            let Some(current) = &mut self.current else {
                self.open_next().await;
                continue;
            };
            match current.stream.next().await {
                Some((Some(first), events)) => {
                    let (first, events) = current.unheard(first, events);
                    let (skipped, shown) = self.shown(events);
                    if !shown.is_empty() {
                        return (EventId { seq: first.seq + skipped, ..first }, shown);
                    }
                }
                Some((None, broken)) => {
                    let id = current.next;
                    self.current = None;
                    return (id, broken);
                }
                None => {
                    let (id, run_id) = (current.next, current.run_id);
                    self.current = None;
                    if self.follows_runs() {
                        let done = json!({ "run_id": run_id, "status": "run_done" });
                        return (id, vec![StreamEvent::of("metadata", &done)]);
                    }
                }
            }
        }
    }

    async fn open_next(&mut self) {
        if self.beginning.is_none() {
            let next = self.watch.next().await;
            self.beginning = self.known.insert(next.0).then_some(next);
        }
        let Some((run_id, _)) = self.beginning else { return };
        // A thread may come to be, or change hands, while somebody listens.
        let seen = self.sight.sees().await.unwrap_or(false);
        let run = self.sight.storage.run_by_id(run_id).await.ok().flatten();
        let Some((_, live)) = self.beginning.take().filter(|_| seen) else { return };
        // What is kept of a run can't be lost on the way.
        let stream = match run {
            Some(run) => self.engine.stream_of(&run, Some(live), Some(0), Vec::new()),
            None => RunStream::live(live),
        };
        self.current = Some(Current::of(run_id, stream));
    }

    /// The events that are wanted, behind the count of those before them that are not.
    fn shown(&self, events: Vec<StreamEvent>) -> (u64, Vec<StreamEvent>) {
        if self.modes.contains(&ThreadStreamMode::RunModes) {
            return (0, events);
        }
        let lifecycle = self.modes.contains(&ThreadStreamMode::Lifecycle);
        let wanted = |event: &StreamEvent| lifecycle && &*event.name == "metadata";
        let skipped = events.iter().take_while(|event| !wanted(event)).count();
        (skipped as u64, events.into_iter().filter(wanted).collect())
    }

    fn follows_runs(&self) -> bool {
        self.modes.iter().any(|mode| *mode != ThreadStreamMode::StateUpdate)
    }
}
