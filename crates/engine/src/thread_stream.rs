//! Following a thread: what its runs say, one after the other, for as long as somebody listens.

use serde_json::json;
use threadyard_core::{
    bus::{From, Received, Subscription, ThreadWatch},
    ids::{RunId, ThreadId},
    page::Window,
    runs::{RunError, RunQuery, RunStatus},
    stream::{EventId, StreamEvent},
};

use crate::{Engine, Result};

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
    watch: Box<dyn ThreadWatch>,
    modes: Vec<ThreadStreamMode>,
    current: Option<Current>,
    /// The run that was going on at the start; the watch may tell of it as well.
    joined: Option<RunId>,
}

struct Current {
    run_id: RunId,
    subscription: Box<dyn Subscription>,
    /// The id behind the last event.
    next: EventId,
}

impl Current {
    fn of((run_id, subscription): (RunId, Box<dyn Subscription>)) -> Self {
        Self { run_id, subscription, next: EventId::START }
    }
}

impl Engine {
    /// Follows a thread from now on. One that does not exist has nothing to say.
    pub async fn follow_thread(&self, thread_id: ThreadId, modes: Vec<ThreadStreamMode>) -> Result<ThreadStream> {
        // Watched before the rows are read, so that no run is missed.
        let watch = self.bus.watch(thread_id);
        let running = RunQuery { thread_id, status: Some(RunStatus::Running) };
        let open = self.storage.search_runs(running, Window { limit: 1, offset: 0 }).await?;
        let going_on = match open.rows.first() {
            Some(run) => self.follow(run, From::Now).await?.map(|live| (run.run_id, live)),
            None => None,
        };
        let joined = going_on.as_ref().map(|(run_id, _)| *run_id);
        Ok(ThreadStream { watch, modes, current: going_on.map(Current::of), joined })
    }
}

impl ThreadStream {
    /// Waits for the next events, with the id of the first. It never ends by itself.
    pub async fn next(&mut self) -> (EventId, Vec<StreamEvent>) {
        loop {
            let Some(current) = &mut self.current else {
                let (run_id, subscription) = self.watch.next().await;
                if self.joined != Some(run_id) {
                    self.current = Some(Current::of((run_id, subscription)));
                }
                continue;
            };
            match current.subscription.next().await {
                Received::Events(first, events) => {
                    current.next = EventId { seq: first.seq + events.len() as u64, ..first };
                    let (skipped, shown) = self.shown(events);
                    if !shown.is_empty() {
                        return (EventId { seq: first.seq + skipped, ..first }, shown);
                    }
                }
                Received::Lagged => {
                    let (id, run_id) = (current.next, current.run_id);
                    self.current = None;
                    let message =
                        format!("the reader fell so far behind run {run_id} that the rest of its events is lost");
                    let error = RunError { error: "StreamLagged".into(), message };
                    return (id, vec![StreamEvent::of("error", &error)]);
                }
                Received::Closed(_) => {
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
