//! Runs: putting them into the queue, finding them, waiting for them, stopping them.

use std::time::Duration;

use serde_json::json;
use threadyard_core::{
    access::{Action, User},
    bus::{Closing, Topic},
    events::kept_id,
    ids::{CronId, RunId, ThreadId},
    json::{Object, RawJson, Value, fields},
    page::{Page, Window},
    runs::{
        ClaimedRun, CreatedRun, Durability, EndStatus, Ending, MultitaskStrategy, NewRun, PauseAt, Run, RunQuery,
        RunStatus,
    },
    runtime::StopReason,
    storage::StorageError,
    stream::{StreamEvent, StreamMode},
    threads::ThreadValues,
};

use crate::{
    CheckpointRef, Engine, Error, PushTarget, Result, RunStream, run_task, stream::failed_result,
    webhook_client::check_webhook_url,
};

/// A run that somebody asks for.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the shape is the API's")]
pub struct RunRequest {
    /// The id of an assistant, or a graph's for its default assistant.
    pub assistant: String,
    /// The graph's input.
    pub input: Option<RawJson>,
    /// Resume, update and goto.
    pub command: Option<RawJson>,
    /// Where to go on from.
    pub checkpoint: CheckpointRef,
    /// Annotations of the run.
    pub metadata: Object,
    /// Laid over the assistant's config.
    pub config: Object,
    /// Laid over the assistant's context.
    pub context: Object,
    /// Where to tell that the run ended.
    pub webhook: Option<String>,
    /// Pause before these nodes.
    pub interrupt_before: Option<PauseAt>,
    /// Pause after these nodes.
    pub interrupt_after: Option<PauseAt>,
    /// What to stream.
    pub stream_mode: Vec<StreamMode>,
    /// Whether to stream events of subgraphs.
    pub stream_subgraphs: bool,
    /// Whether events carry ids and can be replayed.
    pub stream_resumable: bool,
    /// Accepted for compatibility.
    pub feedback_keys: Option<Vec<String>>,
    /// What to do about the thread's other runs.
    pub multitask_strategy: MultitaskStrategy,
    /// How long to wait before the run may start.
    pub after: Duration,
    /// When checkpoints are written.
    pub durability: Durability,
    /// The cron that asks for it.
    pub cron_id: Option<CronId>,
    /// Where to tell how its task stands.
    pub push_target: Option<PushTarget>,
    /// What it sees of the request that asks for it, as keys of `config.configurable`.
    pub of_request: Object,
    /// Whether it says the events of event streaming.
    pub event_streaming: bool,
    /// Whether an answer to an interrupt that does not wait fails it.
    pub strict_resume: bool,
}

/// The thread that a run is to work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadChoice {
    /// This one; the flag says whether to make it when it does not exist.
    Existing(ThreadId, bool),
    /// A new one; the flag says whether it goes when the run has ended.
    New(bool),
}

/// A run in the queue, with the stream of what it will say.
pub struct StartedRun {
    /// The run.
    pub run: Run,
    /// Everything it says, from the start.
    pub stream: RunStream,
}

impl Engine {
    /// Puts a run into the queue. Its stream is open before the run can begin, so nothing of it is missed.
    pub async fn create_run(&self, request: RunRequest, choice: ThreadChoice) -> Result<StartedRun> {
        let new = self.prepare_run(request, choice, self.user()).await?;
        self.enqueue(new).await
    }

    /// Puts several runs into the queue that bring their own threads, which go with them or stay: all of them or none.
    pub async fn create_runs(&self, requests: Vec<(RunRequest, bool)>) -> Result<Vec<Run>> {
        let mut prepared = Vec::with_capacity(requests.len());
        for (request, temporary) in requests {
            prepared.push(self.prepare_run(request, ThreadChoice::New(temporary), self.user()).await?);
        }
        let runs: Vec<_> = prepared.iter().map(|new| new.run.clone()).collect();
        self.storage.create_runs(prepared).await??;
        self.wake(Topic::Runs);
        Ok(runs)
    }

    pub(crate) async fn prepare_run(
        &self,
        mut request: RunRequest,
        choice: ThreadChoice,
        user: Option<&User>,
    ) -> Result<NewRun> {
        let within = self.permit_run(&mut request, choice).await?;
        let assistant = self.resolve_assistant(&request.assistant).await?;
        self.check_loaded(&assistant.graph_id)?;
        if let ThreadChoice::Existing(thread_id, _) = choice {
            self.check_language(thread_id, &assistant.graph_id).await?;
        }
        if let Some(url) = &request.webhook {
            check_webhook_url(url, &self.settings.webhook_policy)?;
        }
        request.push_target.iter().try_for_each(|target| self.check_push_target(target))?;
        Ok(NewRun { within, ..self.new_run(request, choice, &assistant, user)? })
    }

    async fn enqueue(&self, mut new: NewRun) -> Result<StartedRun> {
        let run = new.run.clone();
        // Where there is room, it need not be looked for in the queue. Who has how much is counted there.
        let may_begin = !self.stopping.is_cancelled() && !self.settings.run_limits.running.limits();
        let slot = if may_begin { self.slots.take_one() } else { None };
        let speaks = slot.is_some();
        if speaks {
            new.claim = Some(self.new_lease());
            self.bus.open(run.run_id, run.thread_id);
        }
        let stream = self.open_stream(&run);
        match self.storage.create_run(new).await.map_err(Error::from).and_then(accepted) {
            Ok(Accepted { ended, stopping, claimed }) => {
                self.announce_stopped(&run, ended, stopping).await;
                match (claimed, slot) {
                    (Some(claimed), Some(slot)) => run_task::begin(&self.by_itself(), *claimed, slot),
                    (_, slot) => {
                        drop(slot);
                        self.wake(Topic::Runs);
                        // Another server may have room at once.
                        self.bus.wake_others(Topic::Runs);
                    }
                }
                if speaks {
                    // From here on, whoever executes it does, here or elsewhere.
                    self.bus.hand_over(run.run_id);
                }
                Ok(StartedRun { run, stream })
            }
            Err(error) => {
                self.bus.close(run.run_id, Closing::default());
                if slot.is_some_and(|slot| self.slots.give_back(slot)) {
                    self.wake(Topic::Runs);
                }
                Err(error)
            }
        }
    }

    /// The run with this id on this thread.
    pub async fn run(&self, thread_id: ThreadId, run_id: RunId) -> Result<Run> {
        self.permit_on_thread(Action::ThreadsRead, thread_id).await?;
        let found = self.storage.run(thread_id, run_id).await?.ok_or(Error::NotFound("run"))?;
        Ok(self.shown(found))
    }

    /// The run with this id, whatever its thread.
    pub async fn run_by_id(&self, run_id: RunId) -> Result<Run> {
        let found = self.storage.run_by_id(run_id).await?.ok_or(Error::NotFound("run"))?;
        match self.permit_on_thread(Action::ThreadsRead, found.thread_id).await {
            Err(Error::NotFound(_)) => Err(Error::NotFound("run")),
            permitted => permitted.map(|_| self.shown(found)),
        }
    }

    /// The runs of a thread, newest first.
    pub async fn list_runs(&self, query: RunQuery, window: Window) -> Result<Page<Run>> {
        self.thread(query.thread_id).await?;
        let mut page = self.storage.search_runs(query, window).await?;
        page.rows = page.rows.into_iter().map(|run| self.shown(run)).collect();
        Ok(page)
    }

    /// Deletes a run with the checkpoints it wrote, and stops it if it goes on.
    pub async fn delete_run(&self, thread_id: ThreadId, run_id: RunId) -> Result<()> {
        let asked = || fields(&json!({ "run_id": run_id, "thread_id": thread_id }));
        let within = self.permit(Action::ThreadsDelete, asked).await?.filter;
        let status = self.storage.delete_run(thread_id, run_id, within).await?.ok_or(Error::NotFound("run"))?;
        if status == RunStatus::Running {
            self.tell_to_stop(run_id, StopReason::Rollback);
        } else {
            self.bus.close(run_id, Closing::default());
        }
        self.wake(Topic::Runs);
        Ok(())
    }

    fn check_loaded(&self, graph_id: &str) -> Result<()> {
        let graphs = self.runtime.graphs();
        match graphs.into_iter().find(|graph| graph.id == graph_id) {
            None => Err(Error::NotFound("graph")),
            Some(graph) => match graph.failure {
                Some(error) => Err(Error::BrokenGraph { graph: graph.id, error }),
                None => Ok(()),
            },
        }
    }

    /// A thread keeps the language that it was begun with. The worker checks that, too, but by then it is too late for an
    /// answer.
    async fn check_language(&self, thread_id: ThreadId, graph_id: &str) -> Result<()> {
        let graphs = self.runtime.graphs();
        let language = |id: &str| graphs.iter().find(|graph| graph.id == id).map(|graph| graph.language);
        let Some(asked) = language(graph_id).filter(|asked| graphs.iter().any(|graph| graph.language != *asked)) else {
            return Ok(());
        };
        let thread = self.storage.thread(thread_id).await?;
        let Some(thread) = thread.filter(|thread| !matches!(thread.values, ThreadValues::None)) else { return Ok(()) };
        match thread.metadata.get("graph_id").and_then(Value::as_str).and_then(language) {
            Some(begun) if begun != asked => Err(Error::Conflict(format!(
                "thread `{thread_id}` was begun by a graph in {begun}, whose state a graph in {asked} can't read; \
                 begin a new thread"
            ))),
            _ => Ok(()),
        }
    }

    /// Tells everybody of the runs that a new one takes the place of.
    pub(crate) async fn announce_stopped(&self, run: &Run, ended: Vec<RunId>, stopping: Vec<RunId>) {
        for run_id in ended {
            self.announce_ended(run_id).await;
        }
        for run_id in stopping {
            let rolls_back = run.multitask_strategy == MultitaskStrategy::Rollback;
            self.tell_to_stop(run_id, if rolls_back { StopReason::Rollback } else { StopReason::Interrupt });
        }
    }

    /// Tells everybody how a run ended that nobody executes any more.
    pub(crate) async fn announce_ending(&self, run: &Run, ending: &Ending) {
        if let Some(event) = ending.last_event(run).filter(|_| !run.kwargs.resumable) {
            let place = self.bus.open(run.run_id, run.thread_id);
            self.bus.append(run.run_id, place, vec![event]);
        }
        let failure = ending.error.as_ref().filter(|_| ending.status == EndStatus::Error);
        self.tell_only_word(run, ending.last_event(run)).await;
        self.announce_closed(run.run_id, Closing { result: failure.map(failed_result) });
    }

    /// Tells everybody that a run ended that was not running.
    pub(crate) async fn announce_ended(&self, run_id: RunId) {
        match self.storage.unopened_run(run_id).await {
            Ok(Some(run)) => self.tell_only_word(&run, None).await,
            Ok(None) => {}
            Err(error) => untold(run_id, &error),
        }
        self.announce_closed(run_id, Closing::default());
    }

    fn announce_closed(&self, run_id: RunId, closing: Closing) {
        self.bus.close(run_id, closing);
        self.wake(Topic::Deliveries);
        self.wake(Topic::Runs);
    }

    /// Tells how a run of event streaming ended that never spoke, where storage has put that. What the server says itself
    /// when it stops a run is stored as it is; another word has to be given.
    pub(crate) async fn tell_only_word(&self, run: &Run, word: Option<StreamEvent>) {
        if !run.kwargs.event_streaming() {
            return;
        }
        match self.storage.unopened_events(run.run_id, 0).await {
            Ok(kept) => {
                if let [(place, stored)] = &kept[..] {
                    self.bus.open(run.run_id, run.thread_id);
                    let word = word.unwrap_or_else(|| stored.clone());
                    self.bus.append(run.run_id, kept_id(run, *place), vec![word]);
                }
            }
            Err(error) => untold(run.run_id, &error),
        }
    }
}

fn untold(run_id: RunId, error: &StorageError) {
    tracing::warn!(%run_id, %error, "that the run ended is told only to who reads its thread anew");
}

/// What making a run changed.
struct Accepted {
    ended: Vec<RunId>,
    stopping: Vec<RunId>,
    claimed: Option<Box<ClaimedRun>>,
}

fn accepted(created: CreatedRun) -> Result<Accepted> {
    match created {
        CreatedRun::Created { ended, stopping, claimed } => Ok(Accepted { ended, stopping, claimed }),
        CreatedRun::QueueFull(full) => Err(full.into()),
        CreatedRun::ThreadMissing => Err(Error::NotFound("thread or assistant")),
        CreatedRun::ThreadBusy => Err(Error::Conflict(
            "the thread is busy with another run; wait for it, or choose another multitask_strategy".into(),
        )),
    }
}
