//! A thread's state: its head, its history, and changing it from outside a run.

use serde::{Deserialize, Serialize};
use serde_json::json;
use threadyard_core::{
    access::Action,
    ids::ThreadId,
    json::{Object, RawJson, Value, raw},
    metadata_filter::MetadataFilter,
    runtime::{CallOperation, GraphCall, GraphInfo},
    threads::{SavedState, ThreadHead, ThreadOutcome, ThreadStatus, ThreadUpdate, UpdatedThread},
};

use crate::{Engine, Error, Result, access::thread_value};

/// Which checkpoint of a thread is meant; the default is the newest.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CheckpointRef {
    /// Its id.
    #[serde(default)]
    pub checkpoint_id: Option<String>,
    /// The path of a subgraph.
    #[serde(default)]
    pub checkpoint_ns: Option<String>,
    /// The checkpoints of the enclosing graphs, for subgraphs.
    #[serde(default)]
    pub checkpoint_map: Option<Value>,
}

/// Which states of a thread to list.
#[derive(Clone, Debug)]
pub struct HistoryQuery {
    /// How many at most.
    pub limit: u32,
    /// Only states older than this checkpoint.
    pub before: Option<String>,
    /// The metadata of the checkpoint must contain this.
    pub metadata: Option<Object>,
    /// Only this checkpoint or this subgraph.
    pub checkpoint: CheckpointRef,
}

/// A change of a thread's state.
#[derive(Clone, Debug)]
pub struct UpdateState {
    /// What to write.
    pub values: Option<RawJson>,
    /// The node in whose name to write.
    pub as_node: Option<String>,
    /// Where to fork from.
    pub checkpoint: CheckpointRef,
}

/// The checkpoint that a change of the state made.
#[derive(Clone, Debug)]
pub struct UpdatedState {
    /// Its thread, namespace and id.
    pub configurable: Object,
}

#[derive(Serialize)]
struct UpdateArgs {
    config: Value,
    values: Option<RawJson>,
    as_node: Option<String>,
}

#[derive(Deserialize)]
struct UpdateAnswer {
    config: Object,
    state: RawJson,
    interrupts: Option<RawJson>,
    next: bool,
}

#[derive(Deserialize)]
struct StateValues {
    values: Option<RawJson>,
}

impl CheckpointRef {
    /// The checkpoint that a request names, whole or by its id alone.
    pub fn named(checkpoint: Option<Self>, checkpoint_id: Option<String>) -> Self {
        let mut named = checkpoint.unwrap_or_default();
        named.checkpoint_id = named.checkpoint_id.or(checkpoint_id);
        named
    }

    /// Whether this is the newest state of the whole graph.
    fn is_head(&self) -> bool {
        self.checkpoint_id.is_none() && self.checkpoint_ns.as_deref().unwrap_or_default().is_empty()
    }

    /// Writes itself into a config's configurable keys.
    pub(crate) fn apply(&self, configurable: &mut Object) {
        if let Some(id) = &self.checkpoint_id {
            configurable.insert("checkpoint_id".into(), id.clone().into());
        }
        if let Some(ns) = &self.checkpoint_ns {
            configurable.insert("checkpoint_ns".into(), ns.clone().into());
        }
        if let Some(map) = self.checkpoint_map.as_ref().filter(|map| !map.is_null()) {
            configurable.insert("checkpoint_map".into(), map.clone());
        }
    }
}

impl Engine {
    /// The state of a thread at a checkpoint. The head of a thread at rest is answered from storage alone.
    pub async fn thread_state(&self, id: ThreadId, at: &CheckpointRef, subgraphs: bool) -> Result<RawJson> {
        let (head, _) = self.head(id, Action::ThreadsRead).await?;
        let at_rest = at.is_head() && !subgraphs && head.status != ThreadStatus::Busy;
        if at_rest && let Some(saved) = head.state.as_ref().filter(|saved| self.is_current(saved, &head)) {
            return Ok(saved.state.clone());
        }
        let Some(graph_id) = graph_of(&head) else { return Ok(raw(&empty_state())) };
        let args = json!({ "config": self.state_config(id, at), "subgraphs": subgraphs });
        self.ask_state(CallOperation::StateGet, graph_id, raw(&args)).await
    }

    /// The states of a thread, newest first.
    pub async fn thread_history(&self, id: ThreadId, query: &HistoryQuery) -> Result<RawJson> {
        let (head, _) = self.head(id, Action::ThreadsRead).await?;
        let Some(graph_id) = graph_of(&head) else { return Ok(raw(&json!([]))) };
        let args = json!({
            "config": self.state_config(id, &query.checkpoint),
            "limit": query.limit,
            "before": query.before,
            "filter": query.metadata,
        });
        self.ask_state(CallOperation::StateHistory, graph_id, raw(&args)).await
    }

    /// Writes to a thread's state as if a node had, and answers the checkpoint that made.
    pub async fn update_thread_state(&self, id: ThreadId, update: UpdateState) -> Result<UpdatedState> {
        let (head, within) = self.head(id, Action::ThreadsUpdate).await?;
        if head.status == ThreadStatus::Busy {
            return Err(Error::Conflict(format!("thread `{id}` is busy; update it when its runs have ended")));
        }
        let graph_id = graph_of(&head).ok_or_else(|| {
            Error::Refused(format!("thread `{id}` has no graph yet; set metadata.graph_id or run it"))
        })?;
        let config = self.state_config(id, &update.checkpoint);
        let args = UpdateArgs { config, values: update.values, as_node: update.as_node };
        self.write_state((id, within), CallOperation::StateUpdate, graph_id, raw(&args)).await
    }

    /// Writes supersteps to a thread as if a run had made them.
    pub async fn replay_supersteps(&self, id: ThreadId, supersteps: &[Value]) -> Result<()> {
        let (head, within) = self.head(id, Action::ThreadsUpdate).await?;
        let graph_id = graph_of(&head)
            .ok_or_else(|| Error::Refused(format!("thread `{id}` has no graph; set metadata.graph_id")))?;
        if !self.runtime.graphs().iter().any(|graph| graph.id == graph_id) {
            let known = self.graph_ids();
            return Err(Error::Refused(format!("graph `{graph_id}` is not in the project, which has: {known}")));
        }
        let args = json!({ "config": self.state_config(id, &CheckpointRef::default()), "supersteps": supersteps });
        self.write_state((id, within), CallOperation::StateReplay, graph_id, raw(&args)).await.map(|_| ())
    }

    async fn write_state(
        &self,
        (id, within): (ThreadId, MetadataFilter),
        operation: CallOperation,
        graph_id: String,
        args: RawJson,
    ) -> Result<UpdatedState> {
        let answer = self.ask_state(operation, graph_id, args).await?;
        let answer: UpdateAnswer = understood(&answer)?;
        let values = understood::<StateValues>(&answer.state)?.values;
        let thread = ThreadUpdate {
            status: if answer.next { ThreadStatus::Interrupted } else { ThreadStatus::Idle },
            values,
            outcome: ThreadOutcome { interrupts: answer.interrupts.unwrap_or_else(|| raw(&json!({}))), error: None },
            state: Some(SavedState { state: answer.state, revision: self.runtime.revision() }),
        };
        if self.storage.update_thread(id, within, thread, self.ambient.now()).await? == UpdatedThread::Missing {
            return Err(Error::NotFound("thread"));
        }
        let configurable = match answer.config.get("configurable") {
            Some(Value::Object(configurable)) => configurable.clone(),
            _ => answer.config,
        };
        Ok(UpdatedState { configurable })
    }

    /// Whether a saved state is what the graph would say now, or the graph can't be asked.
    fn is_current(&self, saved: &SavedState, head: &ThreadHead) -> bool {
        let asked = graph_of(head);
        let can_ask = |graph: &GraphInfo| Some(&graph.id) == asked.as_ref() && graph.failure.is_none();
        saved.revision == self.runtime.revision() || !self.runtime.graphs().iter().any(can_ask)
    }

    /// The head of a thread that the caller may touch like this, and what else could be.
    async fn head(&self, id: ThreadId, action: Action) -> Result<(ThreadHead, MetadataFilter)> {
        let filter = self.permit(action, || thread_value(id)).await?.filter;
        let head = self.storage.thread_head(id).await?;
        let head = head.filter(|head| filter.admits(&head.metadata)).ok_or(Error::NotFound("thread"))?;
        Ok((head, filter))
    }

    fn state_config(&self, id: ThreadId, at: &CheckpointRef) -> Value {
        let mut configurable = Object::new();
        configurable.insert("thread_id".into(), id.to_string().into());
        configurable.insert("checkpoint_ns".into(), "".into());
        at.apply(&mut configurable);
        self.name_caller(&mut configurable);
        json!({ "configurable": configurable })
    }

    async fn ask_state(&self, operation: CallOperation, graph_id: String, args: RawJson) -> Result<RawJson> {
        Ok(self.runtime.call(GraphCall { operation, graph_id, args }).await?)
    }
}

fn graph_of(head: &ThreadHead) -> Option<String> {
    head.metadata.get("graph_id").and_then(Value::as_str).map(str::to_owned)
}

fn understood<T: for<'de> Deserialize<'de>>(answer: &RawJson) -> Result<T> {
    serde_json::from_str(answer.get())
        .map_err(|error| Error::Internal(format!("a worker's answer makes no sense: {error}")))
}

/// The state of a thread that never ran.
fn empty_state() -> Value {
    json!({
        "values": {}, "next": [], "tasks": [], "metadata": null, "created_at": null, "checkpoint": null,
        "parent_checkpoint": null, "interrupts": [], "checkpoint_id": null, "parent_checkpoint_id": null,
    })
}
