//! What clients of event streaming ask for: runs, and answers to what runs asked.

use std::time::Duration;

use serde_json::json;
use threadyard_core::{
    access::Action,
    bus::{From, Received},
    ids::{RunId, ThreadId},
    json::{Object, RawJson, RawObject, Value, raw, raw_null},
    page::Window,
    runs::{Durability, MultitaskStrategy, RunQuery, RunStatus},
    stream::StreamMode,
    threads::{Thread, ThreadStatus},
};
use tokio::time::{Instant, timeout_at};

use crate::{CheckpointRef, Engine, Error, Result, RunRequest, ThreadChoice, answers::open_interrupts};

/// How long a new run waits for the thread's others before its strategy is applied: clients ask for the next run as soon
/// as they have heard the end of the last one.
const PATIENCE: Duration = Duration::from_secs(5);

/// A run that a client asks for.
#[derive(Clone, Debug)]
pub struct StartRun {
    /// The id of an assistant or a graph.
    pub assistant: String,
    /// The graph's input, or the answer to the interrupt that the thread waits with.
    pub input: Option<RawJson>,
    /// Laid over the assistant's config.
    pub config: Object,
    /// Annotations.
    pub metadata: Object,
    /// What to do about the thread's other runs.
    pub multitask_strategy: MultitaskStrategy,
    /// What it sees of the request that asks for it, as keys of `config.configurable`.
    pub of_request: Object,
}

/// Answers to interrupts, and what comes with them.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The interrupts' ids, with what their `interrupt()` returns.
    pub responses: Vec<(String, RawJson)>,
    /// An update of the state.
    pub update: Option<RawJson>,
    /// Where to go on.
    pub goto: Option<RawJson>,
    /// Laid over the assistant's config.
    pub config: Object,
    /// Annotations.
    pub metadata: Object,
    /// What the run sees of the request that asks for it, as keys of `config.configurable`.
    pub of_request: Object,
}

/// A run from one of a thread's checkpoints on.
#[derive(Clone, Debug)]
pub struct ForkRun {
    /// The checkpoint.
    pub checkpoint_id: String,
    /// The graph's input.
    pub input: Option<RawJson>,
    /// Laid over the assistant's config.
    pub config: Object,
    /// What the run sees of the request that asks for it, as keys of `config.configurable`.
    pub of_request: Object,
}

impl Engine {
    /// Starts a run whose events are those of event streaming.
    pub async fn start_run(&self, thread_id: ThreadId, start: StartRun) -> Result<RunId> {
        // Whether a run may be made is asked when it is; what others do is nobody's business before.
        let seen = match self.sight(thread_id).await {
            Ok(sight) => sight.sees().await?,
            Err(Error::NotFound(_) | Error::Forbidden(_) | Error::Denied { .. }) => false,
            Err(error) => return Err(error),
        };
        let thread = if seen { self.rested(thread_id, Instant::now() + PATIENCE).await? } else { None };
        let waits = thread
            .is_some_and(|thread| thread.status == ThreadStatus::Interrupted && !open_interrupts(&thread).is_empty());
        let forks = start.config.get("configurable").and_then(|it| it.get("checkpoint_id")).is_some();
        let mut request = request(start.assistant, start.config, start.metadata);
        (request.multitask_strategy, request.of_request) = (start.multitask_strategy, start.of_request);
        match start.input.filter(|input| input.get() != "null") {
            Some(input) if waits && !forks => request.command = Some(raw(&json!({ "resume": input }))),
            input => request.input = input,
        }
        Ok(self.create_run(request, ThreadChoice::Existing(thread_id, true)).await?.run.run_id)
    }

    /// Goes on with a thread that waits for answers.
    pub async fn answer(&self, thread_id: ThreadId, answers: Answers) -> Result<RunId> {
        let deadline = Instant::now() + PATIENCE;
        if !self.sight(thread_id).await?.sees().await? {
            return Err(Error::NotFound("interrupt"));
        }
        loop {
            let thread = self.rested(thread_id, deadline).await?.ok_or(Error::NotFound("interrupt"))?;
            let open = open_interrupts(&thread);
            if answers.responses.iter().any(|(id, _)| !open.contains(id)) {
                return Err(Error::NotFound("interrupt"));
            }
            let assistant = self.last_assistant(thread_id).await?;
            let mut request = request(assistant, answers.config.clone(), answers.metadata.clone());
            request.command = Some(command(&answers));
            // Whoever else answers at the same time is a run now, and may have used the interrupt up.
            request.multitask_strategy = MultitaskStrategy::Reject;
            request.of_request = answers.of_request.clone();
            match self.create_run(request, ThreadChoice::Existing(thread_id, false)).await {
                Err(Error::Conflict(_)) if Instant::now() < deadline => {}
                created => return Ok(created?.run.run_id),
            }
        }
    }

    /// Goes on from one of a thread's checkpoints, with the assistant of its last run.
    pub async fn fork_run(&self, thread_id: ThreadId, fork: ForkRun) -> Result<RunId> {
        self.permit_on_thread(Action::ThreadsRead, thread_id).await?;
        let known = self.storage.checkpoint(&thread_id.to_string(), "", Some(&fork.checkpoint_id)).await?;
        known.ok_or(Error::NotFound("checkpoint"))?;
        let assistant = self.last_assistant(thread_id).await?;
        let mut config = fork.config;
        match config.entry("configurable").or_insert_with(|| json!({})) {
            Value::Object(configurable) => configurable.insert("checkpoint_id".into(), fork.checkpoint_id.into()),
            _ => return Err(Error::Invalid("config.configurable: must be an object".into())),
        };
        let (metadata, multitask_strategy) = (Object::new(), MultitaskStrategy::Enqueue);
        let (input, of_request) = (fork.input, fork.of_request);
        let start = StartRun { assistant, input, config, metadata, multitask_strategy, of_request };
        self.start_run(thread_id, start).await
    }

    async fn last_assistant(&self, thread_id: ThreadId) -> Result<String> {
        let window = Window { limit: 1, offset: 0 };
        let last = self.storage.search_runs(RunQuery { thread_id, status: None }, window).await?;
        Ok(last.rows.first().ok_or(Error::NotFound("run"))?.assistant_id.to_string())
    }

    /// The thread when no run of it goes on, or as it is when that takes too long.
    async fn rested(&self, thread_id: ThreadId, deadline: Instant) -> Result<Option<Thread>> {
        loop {
            let thread = self.storage.thread(thread_id).await?;
            if thread.as_ref().is_none_or(|thread| thread.status != ThreadStatus::Busy) || Instant::now() >= deadline {
                return Ok(thread);
            }
            for status in [RunStatus::Running, RunStatus::Pending] {
                let query = RunQuery { thread_id, status: Some(status) };
                let open = self.storage.search_runs(query, Window { limit: 1, offset: 0 }).await?;
                let Some(run) = open.rows.first() else { continue };
                let Some(mut live) = self.follow(run, From::Now).await? else { continue };
                let end = async { while !matches!(live.next().await, Received::Closed(_)) {} };
                // Whether it ended is seen in the next round.
                let _ = timeout_at(deadline, end).await;
                break;
            }
        }
    }
}

fn request(assistant: String, config: Object, metadata: Object) -> RunRequest {
    let modes = [
        StreamMode::Values,
        StreamMode::Updates,
        StreamMode::Messages,
        StreamMode::Custom,
        StreamMode::Tasks,
        StreamMode::Checkpoints,
    ];
    RunRequest {
        assistant,
        input: None,
        command: None,
        checkpoint: CheckpointRef::default(),
        metadata,
        config,
        context: Object::new(),
        webhook: None,
        interrupt_before: None,
        interrupt_after: None,
        stream_mode: modes.into(),
        stream_subgraphs: true,
        stream_resumable: true,
        feedback_keys: None,
        multitask_strategy: MultitaskStrategy::Enqueue,
        after: Duration::ZERO,
        durability: Durability::Async,
        cron_id: None,
        of_request: Object::new(),
        push_target: None,
        event_streaming: true,
        // Answers are looked at before there is a run.
        strict_resume: false,
    }
}

fn command(answers: &Answers) -> RawJson {
    let resume: RawObject = answers.responses.iter().cloned().collect();
    let (update, goto) = (answers.update.clone(), answers.goto.clone());
    raw(&json!({ "resume": resume, "update": update.unwrap_or_else(raw_null), "goto": goto.unwrap_or_else(raw_null) }))
}
