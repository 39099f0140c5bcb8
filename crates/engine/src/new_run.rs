//! What a run begins as: what is asked for, laid over its assistant.

use threadyard_core::{
    access::User,
    agent_tasks::TaskId,
    assistants::Assistant,
    ids::{RunId, ThreadId},
    json::{Object, Value},
    limits::{Counted, RunLimits},
    metadata_filter::MetadataFilter,
    runs::{Durability, NewRun, Run, RunKwargs, RunStatus},
    stream::StreamMode,
};

use crate::{
    Engine, Result, RunRequest, ThreadChoice,
    run_config::{self, RunNames},
};

impl Engine {
    pub(crate) fn new_run(
        &self,
        request: RunRequest,
        choice: ThreadChoice,
        assistant: &Assistant,
        user: Option<&User>,
    ) -> Result<NewRun> {
        let now = self.ambient.now();
        let run_id = RunId(self.ambient.ordered());
        let (thread_id, make_thread, temporary) = match choice {
            ThreadChoice::Existing(id, make) => (id, make, false),
            ThreadChoice::New(temporary) => (ThreadId(self.ambient.ordered()), true, temporary),
        };
        let run_config::MergedConfig { mut config, context } =
            run_config::merge(assistant, &request.config, &request.context)?;
        let thread_config = run_config::for_thread(&config);
        run_config::add_configurable(&mut config, &request.of_request);
        run_config::name_run(&mut config, &RunNames { run_id, thread_id, assistant, request: &request, user });
        if let Some(Value::Object(configurable)) = config.get_mut("configurable") {
            request.checkpoint.apply(configurable);
        }

        let belongs = run_config::belongs_to(assistant);
        let metadata = annotations(assistant, &request, &belongs, choice);
        run_config::add_metadata(&mut config, &metadata);
        if let Some(trace) = &self.trace {
            trace.note(&mut config);
        }

        let thread_metadata = request.metadata.clone();
        let (due_at, multitask_strategy) = (now + request.after, request.multitask_strategy);
        let push_target = request.push_target.clone();
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
        let push_config = push_target.map(|target| target.of(TaskId::of(&run)));
        Ok(NewRun {
            run,
            push_config,
            due_at,
            within: MetadataFilter::default(),
            create_thread: make_thread.then_some(thread_metadata),
            thread_ttl: self.settings.thread_ttl,
            thread_metadata: belongs,
            thread_config,
            webhooks_enabled: self.settings.webhooks_enabled,
            counted: self.counted(user),
            claim: None,
        })
    }

    /// How limits count a run of this user, if there are any.
    fn counted(&self, user: Option<&User>) -> Option<Counted> {
        let RunLimits { pending, running } = self.settings.run_limits;
        let user = user.map(User::identity).unwrap_or_default();
        (pending.limits() || running.limits()).then(|| Counted { user: user.to_owned(), pending })
    }
}

/// The metadata of the run: the assistant's, overlaid by the request's, and whose it is.
fn annotations(assistant: &Assistant, request: &RunRequest, belongs: &Object, choice: ThreadChoice) -> Object {
    let mut metadata = assistant.metadata.clone();
    metadata.extend(request.metadata.clone());
    metadata.extend(belongs.clone());
    // Upstream: the metadata of a stateless run do not name its graph.
    if matches!(choice, ThreadChoice::New(_)) {
        metadata.shift_remove("graph_id");
    }
    metadata
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
        strict_resume: request.strict_resume,
    }
}
