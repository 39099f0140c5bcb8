//! Push configs: where another agent wants to be told how its task (A2A) stands, while it does not listen.

use async_trait::async_trait;
use uuid::Uuid;

use crate::{
    agent_parts::Version,
    agent_tasks::{Left, Task, TaskId, is_of_a_task},
    json::raw,
    metadata_filter::MetadataFilter,
    runs::{Ending, Run},
    storage::Result,
    webhook_body::{NewDelivery, trace_headers},
    webhook_policy::WebhookHeaders,
};

/// The header by which a receiver knows who notifies it.
pub const TOKEN_HEADER: &str = "x-a2a-notification-token";

/// Where to tell how a task stands, whenever it ends or asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushConfig {
    /// The task.
    pub task: TaskId,
    /// Its id among those of the task.
    pub id: String,
    /// Where to send it; may hold a token, so it is never logged.
    pub url: String,
    /// What proves to the receiver who sends it.
    pub headers: WebhookHeaders,
    /// How the task is written.
    pub version: Version,
}

/// What came of keeping a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptPushConfig {
    /// It is there, in the place of an earlier one with its id.
    Done,
    /// There is no such task.
    NoTask,
    /// The task has as many as it may.
    TooMany,
}

/// So many a task may have.
pub const MOST_PUSH_CONFIGS: u32 = 20;

/// The task whose configs an ending concerns.
pub fn task_to_tell(run: &Run) -> Option<TaskId> {
    is_of_a_task(&run.metadata).then(|| TaskId::of(run))
}

/// What the end of a run tells by this config. Its id comes from both, so that a receiver can tell duplicates.
pub fn notification_for(config: &PushConfig, run: &Run, ending: &Ending) -> NewDelivery {
    let mut task = Task::ended(run, ending.status.run_status(), Left::by(ending));
    task.at = ending.at;
    let name = Uuid::new_v5(&run.run_id.0, config.id.as_bytes());
    NewDelivery {
        id: format!("msg_{}_{}", run.run_id.0.simple(), name.simple()),
        run_id: run.run_id,
        thread_id: run.thread_id,
        event: format!("task.{}", task.state.as_str(Version::V03)),
        url: config.url.clone(),
        headers: WebhookHeaders([trace_headers(run).0, config.headers.0.clone()].concat()),
        maker: None,
        body: raw(&task.told(config.version)),
        created_at: ending.at,
    }
}

/// Stored push configs. They go with the run that began their task, or a while after it.
#[async_trait]
pub trait PushConfigs: Send + Sync {
    /// Keeps a config, if the task's thread is one of these.
    async fn keep_push_config(&self, config: PushConfig, within: MetadataFilter) -> Result<KeptPushConfig>;
    /// The configs of a task, by their ids.
    async fn push_configs(&self, task: TaskId) -> Result<Vec<PushConfig>>;
    /// Forgets a config, if the task's thread is one of these. Says whether there was one.
    async fn delete_push_config(&self, task: TaskId, id: String, within: MetadataFilter) -> Result<bool>;
    /// Forgets those of tasks that are gone; how many.
    async fn sweep_push_configs(&self, limit: u32) -> Result<u64>;
}
