//! Whether a caller may begin a run, and on what.

use serde_json::json;
use threadyard_core::{
    access::Action,
    assistants::Assistant,
    crons::Cron,
    ids::{AssistantId, RunId, ThreadId},
    json::{Object, RawJson, RawObject, Value, fields, fields_of, raw, raw_null},
    metadata_filter::MetadataFilter,
    runs::Run,
};

use crate::{Engine, Error, Result, RunRequest, ThreadChoice, crons::run_request};

impl Engine {
    /// Asks about a run that is to begin; `request` becomes what may. A thread that exists must be one that the filter admits.
    pub(crate) async fn permit_run(&self, request: &mut RunRequest, choice: ThreadChoice) -> Result<MetadataFilter> {
        let mut permit = self.permit(Action::ThreadsCreateRun, || asked(request, choice)).await?;
        permit.edit("metadata", &mut request.metadata)?;
        let mut kwargs = raw_null();
        permit.edit("kwargs", &mut kwargs)?;
        if let Some(kwargs) = fields_of(&kwargs) {
            edit_kwargs(request, kwargs)?;
        }
        Ok(permit.filter)
    }

    /// Asks about the runs of a cron as if they began now, since nobody is asked when they do. What becomes of them is kept
    /// with the cron.
    pub(crate) async fn permit_runs_of(&self, cron: &mut Cron) -> Result<()> {
        if !self.is_restricted() {
            return Ok(());
        }
        let mut request = run_request(cron)?;
        let parts = |request: &RunRequest| {
            let parts = json!({
                "input": request.input, "command": request.command, "config": request.config, "context": request.context,
            });
            fields(&parts)
        };
        let before = parts(&request);
        let choice = cron.thread_id.map_or(ThreadChoice::New(true), |id| ThreadChoice::Existing(id, false));
        let filter = self.permit_run(&mut request, choice).await?;
        if let Some(id) = cron.thread_id {
            let thread = self.storage.thread(id).await?;
            thread.filter(|thread| filter.admits(&thread.metadata)).ok_or(Error::NotFound("thread"))?;
        }
        for (part, after) in parts(&request) {
            if before.get(&part).is_none_or(|before| before.get() != after.get()) {
                cron.payload.insert(part, after);
            }
        }
        cron.metadata = request.metadata;
        Ok(())
    }

    /// Whether the caller may use an assistant. Those that the graphs bring with them belong to everybody who may begin runs.
    pub(crate) async fn permit_assistant(&self, assistant: &Assistant) -> Result<bool> {
        if !self.is_restricted() || assistant.assistant_id == AssistantId::of_graph(&assistant.graph_id) {
            return Ok(true);
        }
        let asked = || fields(&json!({ "assistant_id": assistant.assistant_id }));
        let permit = self.permit(Action::AssistantsRead, asked).await?;
        Ok(permit.filter.admits(&assistant.metadata))
    }

    /// A run as the caller may see it: what authentication knows of somebody is for nobody else.
    pub(crate) fn shown(&self, mut run: Run) -> Run {
        let Some(caller) = self.user() else { return run };
        if let Some(Value::Object(configurable)) = run.kwargs.config.get_mut("configurable")
            && configurable.get("langgraph_auth_user_id").is_some_and(|id| id != caller.identity())
        {
            configurable.retain(|key, _| key != "langgraph_auth_user" && key != "langgraph_auth_permissions");
        }
        run
    }

    /// Asks about stopping runs of a thread, or of any.
    pub(crate) async fn permit_cancel(
        &self,
        thread_id: Option<ThreadId>,
        run_ids: Option<&[RunId]>,
        action: &'static str,
    ) -> Result<MetadataFilter> {
        let asked = || {
            let metadata = json!({ "run_ids": run_ids, "status": null });
            fields(&json!({ "thread_id": thread_id, "action": action, "metadata": metadata }))
        };
        Ok(self.permit(Action::ThreadsUpdate, asked).await?.filter)
    }
}

/// The run in the words of handlers.
fn asked(request: &RunRequest, choice: ThreadChoice) -> RawObject {
    let (thread_id, if_not_exists, temporary) = match choice {
        ThreadChoice::Existing(id, make) => (Some(id), if make { "create" } else { "reject" }, false),
        ThreadChoice::New(temporary) => (None, "create", temporary),
    };
    let assistant_id = request.assistant.parse().unwrap_or_else(|_| AssistantId::of_graph(&request.assistant));
    let mut kwargs = fields(&json!({
        "config": request.config, "context": request.context, "stream_mode": request.stream_mode,
        "interrupt_before": request.interrupt_before, "interrupt_after": request.interrupt_after,
        "webhook": request.webhook, "feedback_keys": request.feedback_keys, "temporary": temporary,
        "subgraphs": request.stream_subgraphs, "resumable": request.stream_resumable, "durability": request.durability,
    }));
    // These are carried as they were written.
    kwargs.insert("input".into(), request.input.clone().unwrap_or_else(raw_null));
    kwargs.insert("command".into(), request.command.clone().unwrap_or_else(raw_null));
    let mut asked = fields(&json!({
        "thread_id": thread_id, "assistant_id": assistant_id, "run_id": null, "status": "pending",
        "metadata": request.metadata, "prevent_insert_if_inflight": false,
        "multitask_strategy": request.multitask_strategy, "if_not_exists": if_not_exists,
        "after_seconds": request.after.as_secs(),
    }));
    asked.insert("kwargs".into(), raw(&kwargs));
    asked
}

/// Takes over what a handler may change of how a run is executed.
fn edit_kwargs(request: &mut RunRequest, mut kwargs: RawObject) -> Result<()> {
    let given = |json: Option<RawJson>| json.filter(|json| json.get() != "null");
    let object = |json: Option<RawJson>, name: &str| match given(json) {
        None => Ok(Object::new()),
        Some(json) => match serde_json::from_str(json.get()) {
            Ok(Value::Object(object)) => Ok(object),
            _ => Err(Error::Internal(format!("an auth handler changed `kwargs.{name}` to what is no object"))),
        },
    };
    request.input = given(kwargs.swap_remove("input"));
    request.command = given(kwargs.swap_remove("command"));
    request.config = object(kwargs.swap_remove("config"), "config")?;
    request.context = object(kwargs.swap_remove("context"), "context")?;
    Ok(())
}
