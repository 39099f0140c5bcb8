//! Runs: putting them into the queue, finding them, waiting for them, stopping them.

use std::time::Duration;

use threadyard_core::{
    assistants::Assistant,
    bus::{Closing, From, Topic},
    cancel::{CancelAction, CancelCause, CancelRequest, CancelledRun},
    ids::{CronId, RunId, ThreadId},
    json::{Object, RawJson, Value},
    page::{Page, Window},
    runs::{
        ClaimedRun, CreatedRun, Durability, EndStatus, Ending, MultitaskStrategy, NewRun, PauseAt, Run, RunKwargs,
        RunQuery, RunStatus,
    },
    runtime::StopReason,
    stream::StreamMode,
};

use crate::{
    CheckpointRef, Engine, Error, Result, RunStream,
    run_config::{self, RunNames},
    run_task,
    stream::failed_result,
    webhook_client::check_webhook_url,
};

/// A run that somebody asks for.
#[derive(Clone, Debug)]
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
}

/// The thread that a run is to work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadChoice {
    /// This one; the flag says whether to make it when it does not exist.
    Existing(ThreadId, bool),
    /// A new one; the flag says whether it goes when the run has ended.
    New(bool),
}

/// Which runs to stop together.
#[derive(Clone, Debug)]
pub enum CancelRuns {
    /// These of one thread.
    OfThread(ThreadId, Vec<RunId>),
    /// All that are pending, all that are running, or both.
    WithStatus(Option<RunStatus>),
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
        let new = self.prepare_run(request, choice).await?;
        self.enqueue(new).await
    }

    /// Puts several runs into the queue that bring their own threads, which go with them or stay: all of them or none.
    pub async fn create_runs(&self, requests: Vec<(RunRequest, bool)>) -> Result<Vec<Run>> {
        let mut prepared = Vec::with_capacity(requests.len());
        for (request, temporary) in requests {
            prepared.push(self.prepare_run(request, ThreadChoice::New(temporary)).await?);
        }
        let runs: Vec<_> = prepared.iter().map(|new| new.run.clone()).collect();
        self.storage.create_runs(prepared).await?;
        self.wake(Topic::Runs);
        Ok(runs)
    }

    pub(crate) async fn prepare_run(&self, request: RunRequest, choice: ThreadChoice) -> Result<NewRun> {
        let assistant = self.resolve_assistant(&request.assistant).await?;
        self.check_loaded(&assistant.graph_id)?;
        if let Some(url) = &request.webhook {
            check_webhook_url(url, &self.settings.webhook_policy)?;
        }
        self.new_run(request, choice, &assistant)
    }

    async fn enqueue(&self, mut new: NewRun) -> Result<StartedRun> {
        let run = new.run.clone();
        // Where there is room, it need not be looked for in the queue.
        let slot = self.slots.take_one().filter(|_| !self.stopping.is_cancelled());
        let speaks = slot.is_some();
        if speaks {
            new.claim = Some(run_task::new_lease(self));
            self.bus.open(run.run_id, run.thread_id);
        }
        let stream = self.open_stream(&run);
        match self.storage.create_run(new).await.map_err(Error::from).and_then(accepted) {
            Ok(Accepted { ended, stopping, claimed }) => {
                self.announce_stopped(&run, ended, stopping);
                match (claimed, slot) {
                    (Some(claimed), Some(slot)) => run_task::begin(self, *claimed, slot),
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
        self.storage.run(thread_id, run_id).await?.ok_or(Error::NotFound("run"))
    }

    /// The run with this id, whatever its thread.
    pub async fn run_by_id(&self, run_id: RunId) -> Result<Run> {
        self.storage.run_by_id(run_id).await?.ok_or(Error::NotFound("run"))
    }

    /// The runs of a thread, newest first.
    pub async fn list_runs(&self, query: RunQuery, window: Window) -> Result<Page<Run>> {
        self.thread(query.thread_id).await?;
        Ok(self.storage.search_runs(query, window).await?)
    }

    /// Stops a run. With `wait`, returns when it has truly ended.
    pub async fn cancel_run(&self, thread_id: ThreadId, run_id: RunId, action: CancelAction, wait: bool) -> Result<()> {
        let reason = match action {
            CancelAction::Interrupt => "interrupt requested via POST /threads/{thread_id}/runs/{run_id}/cancel",
            CancelAction::Rollback => "rollback requested via POST /threads/{thread_id}/runs/{run_id}/cancel",
        };
        let cancel = CancelRequest { action, reason: reason.into(), cause: CancelCause::User };
        self.stop_run(thread_id, run_id, cancel, wait).await
    }

    /// Stops a run because the client that asked for it has gone.
    pub async fn cancel_abandoned_run(&self, thread_id: ThreadId, run_id: RunId) -> Result<()> {
        let reason = "client disconnected from the run stream (on_disconnect=cancel)".into();
        let cancel = CancelRequest { action: CancelAction::Interrupt, reason, cause: CancelCause::Disconnect };
        match self.stop_run(thread_id, run_id, cancel, false).await {
            Err(Error::NotFound(_)) => Ok(()),
            outcome => outcome,
        }
    }

    /// Deletes a run with the checkpoints it wrote, and stops it if it goes on.
    pub async fn delete_run(&self, thread_id: ThreadId, run_id: RunId) -> Result<()> {
        let status = self.storage.delete_run(thread_id, run_id).await?.ok_or(Error::NotFound("run"))?;
        if status == RunStatus::Running {
            self.tell_to_stop(run_id, StopReason::Rollback);
        } else {
            self.bus.close(run_id, Closing::default());
        }
        self.wake(Topic::Runs);
        Ok(())
    }

    /// Stops several runs at once. An error when there is none to stop.
    pub async fn cancel_runs(&self, which: CancelRuns, action: CancelAction) -> Result<()> {
        let runs: Vec<_> = match which {
            CancelRuns::OfThread(thread, runs) => runs.into_iter().map(|run| (thread, run)).collect(),
            CancelRuns::WithStatus(status) => self.storage.open_runs(status).await?,
        };
        let mut found = false;
        for (thread, run) in runs {
            match self.cancel_run(thread, run, action, false).await {
                Ok(()) => found = true,
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if found { Ok(()) } else { Err(Error::NotFound("run to cancel")) }
    }

    async fn stop_run(&self, thread_id: ThreadId, run_id: RunId, cancel: CancelRequest, wait: bool) -> Result<()> {
        // Subscribed before the request is stored, so that the end is not missed.
        let end = match self.storage.run(thread_id, run_id).await? {
            Some(run) if wait => self.follow(&run, From::Now).await?,
            _ => None,
        };
        let stop = stop_reason(cancel.action);
        match self.storage.cancel_run(thread_id, run_id, cancel, self.ambient.now()).await? {
            CancelledRun::Missing | CancelledRun::Finished => return Err(Error::NotFound("run")),
            CancelledRun::Ended => self.announce_ended(run_id),
            CancelledRun::Stopping => {
                self.tell_to_stop(run_id, stop);
                if let Some(mut end) = end {
                    while !matches!(end.next().await, threadyard_core::bus::Received::Closed(_)) {}
                }
            }
        }
        Ok(())
    }

    fn new_run(&self, request: RunRequest, choice: ThreadChoice, assistant: &Assistant) -> Result<NewRun> {
        let now = self.ambient.now();
        let run_id = RunId(self.ambient.ordered());
        let (thread_id, make_thread, temporary) = match choice {
            ThreadChoice::Existing(id, make) => (id, make, false),
            ThreadChoice::New(temporary) => (ThreadId(self.ambient.ordered()), true, temporary),
        };
        let run_config::MergedConfig { mut config, context } =
            run_config::merge(assistant, &request.config, &request.context)?;
        let thread_config = run_config::for_thread(&config);
        run_config::name_run(&mut config, &RunNames { run_id, thread_id, assistant, cron_id: request.cron_id });
        if let Some(Value::Object(configurable)) = config.get_mut("configurable") {
            request.checkpoint.apply(configurable);
        }

        let belongs = run_config::belongs_to(assistant);
        let mut metadata = assistant.metadata.clone();
        metadata.extend(request.metadata.clone());
        metadata.extend(belongs.clone());
        // Upstream: the metadata of a stateless run do not name its graph.
        if matches!(choice, ThreadChoice::New(_)) {
            metadata.shift_remove("graph_id");
        }
        run_config::add_metadata(&mut config, &metadata);

        let thread_metadata = request.metadata.clone();
        let (due_at, multitask_strategy) = (now + request.after, request.multitask_strategy);
        let kwargs = kwargs(request, config, context, temporary);
        let run = Run {
            run_id,
            thread_id,
            assistant_id: assistant.assistant_id,
            created_at: now,
            updated_at: now,
            status: RunStatus::Pending,
            metadata,
            kwargs,
            multitask_strategy,
            langsmith_session_name: None,
            graph_id: assistant.graph_id.clone(),
            attempt: 0,
            uncounted: 0,
            shared_losses: 0,
            started_at: None,
            error: None,
        };
        Ok(NewRun {
            run,
            due_at,
            create_thread: make_thread.then_some(thread_metadata),
            thread_ttl: self.settings.thread_ttl,
            thread_metadata: belongs,
            thread_config,
            webhooks_enabled: self.settings.webhooks_enabled,
            claim: None,
        })
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

    /// Tells everybody of the runs that a new one takes the place of.
    pub(crate) fn announce_stopped(&self, run: &Run, ended: Vec<RunId>, stopping: Vec<RunId>) {
        for run_id in ended {
            self.announce_ended(run_id);
        }
        for run_id in stopping {
            let rolls_back = run.multitask_strategy == MultitaskStrategy::Rollback;
            self.tell_to_stop(run_id, if rolls_back { StopReason::Rollback } else { StopReason::Interrupt });
        }
    }

    /// Tells everybody how a run ended that nobody executes any more.
    pub(crate) fn announce_ending(&self, run: &Run, ending: &Ending) {
        if let Some(event) = ending.last_event().filter(|_| !run.kwargs.resumable) {
            let place = self.bus.open(run.run_id, run.thread_id);
            self.bus.append(run.run_id, place, vec![event]);
        }
        let failure = ending.error.as_ref().filter(|_| ending.status == EndStatus::Error);
        self.bus.close(run.run_id, Closing { result: failure.map(failed_result) });
        self.wake(Topic::Deliveries);
        self.wake(Topic::Runs);
    }

    /// Tells everybody that a run ended that was not running.
    pub(crate) fn announce_ended(&self, run_id: RunId) {
        self.bus.close(run_id, Closing::default());
        self.wake(Topic::Deliveries);
        self.wake(Topic::Runs);
    }
}

/// What the run is to be executed with.
fn kwargs(request: RunRequest, config: Object, context: Object, temporary: bool) -> RunKwargs {
    RunKwargs {
        input: if request.command.is_some() { None } else { request.input },
        command: request.command,
        config,
        context,
        stream_mode: if request.stream_mode.is_empty() { vec![StreamMode::Values] } else { request.stream_mode },
        interrupt_before: request.interrupt_before,
        interrupt_after: request.interrupt_after,
        webhook: request.webhook,
        feedback_keys: request.feedback_keys,
        temporary,
        subgraphs: request.stream_subgraphs,
        resumable: request.stream_resumable,
        checkpoint_during: request.durability != Durability::Exit,
        durability: request.durability,
    }
}

/// How a running run is told to stop for this.
pub(crate) fn stop_reason(action: CancelAction) -> StopReason {
    match action {
        CancelAction::Interrupt => StopReason::Interrupt,
        CancelAction::Rollback => StopReason::Rollback,
    }
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
        CreatedRun::ThreadMissing => Err(Error::NotFound("thread or assistant")),
        CreatedRun::ThreadBusy => Err(Error::Conflict(
            "the thread is busy with another run; wait for it, or choose another multitask_strategy".into(),
        )),
    }
}
