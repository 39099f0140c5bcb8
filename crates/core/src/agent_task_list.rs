//! Tasks (A2A) in a list, as far as storage can tell.

use async_trait::async_trait;

use crate::{
    agent_tasks::{GOES_ON_WITH, TaskId, is_of_a_task},
    filter::contains,
    ids::{AssistantId, ThreadId},
    json::{Object, Value},
    metadata_filter::MetadataFilter,
    page::Window,
    storage::Result,
};

/// Which tasks to list.
#[derive(Clone, Debug)]
pub struct TaskQuery {
    /// The assistant that was asked.
    pub assistant_id: AssistantId,
    /// Their context, unless it may be any.
    pub context: Option<ThreadId>,
    /// The metadata of their threads contain this.
    pub metadata: Object,
    /// Only those on threads that whoever asks may see.
    pub visible: MetadataFilter,
}

impl TaskQuery {
    /// Whether a run begins a task that is wanted, by its own metadata and those of its thread.
    pub fn takes(&self, run: &Object, thread: &Object) -> bool {
        let has = |(key, wanted): (&String, &Value)| thread.get(key).is_some_and(|found| contains(found, wanted));
        let begins = is_of_a_task(run) && !run.contains_key(GOES_ON_WITH);
        begins && self.metadata.iter().all(has) && self.visible.admits(thread)
    }
}

/// Some of the tasks that match.
#[derive(Clone, Debug, Default)]
pub struct TaskPage {
    /// Those in the window.
    pub ids: Vec<TaskId>,
    /// How many there are in all.
    pub total: u64,
}

impl TaskPage {
    /// Adds the next one that matches.
    pub fn add(&mut self, id: TaskId, window: Window) {
        let from = u64::from(window.offset);
        if (from..from + u64::from(window.limit)).contains(&self.total) {
            self.ids.push(id);
        }
        self.total += 1;
    }
}

/// Stored tasks.
#[async_trait]
pub trait AgentTasks: Send + Sync {
    /// The tasks that match, the newest first.
    async fn agent_tasks(&self, query: TaskQuery, window: Window) -> Result<TaskPage>;
}
