//! Push configs: where other agents want to be told how their tasks stand.

use threadyard_core::{
    access::Action,
    agent_parts::Version,
    agent_tasks::TaskId,
    ids::AssistantId,
    push_configs::{KeptPushConfig, MOST_PUSH_CONFIGS, PushConfig},
    webhook_policy::{Forbidden, WebhookHeaders},
    webhooks::own_route,
};

use crate::{Engine, Error, Result, access::thread_value, webhook_client::check_webhook_url};

/// Where somebody wants to be told how a task stands.
#[derive(Clone, Debug)]
pub struct PushTarget {
    /// Its id among those of the task.
    pub id: String,
    /// Where to send it.
    pub url: String,
    /// What proves to the receiver who sends it.
    pub headers: WebhookHeaders,
    /// How the task is written.
    pub version: Version,
}

impl PushTarget {
    /// The config that this is for a task.
    pub(crate) fn of(self, task: TaskId) -> PushConfig {
        let Self { id, url, headers, version } = self;
        PushConfig { task, id, url, headers, version }
    }
}

impl Engine {
    /// Whether anybody is told anything.
    pub fn sends_webhooks(&self) -> bool {
        self.settings.webhooks_enabled
    }

    /// Refuses a target that could never be told anything.
    pub fn check_push_target(&self, target: &PushTarget) -> Result<()> {
        self.may_send()?;
        // Agents are elsewhere, and what is sent to them names nobody that the application could ask.
        if own_route(&target.url).is_some() {
            return Err(Error::Invalid(format!("webhook: {}", Forbidden::Relative)));
        }
        check_webhook_url(&target.url, &self.settings.webhook_policy)
    }

    /// Has a task told to a target from now on.
    pub async fn keep_push_config(
        &self,
        assistant: AssistantId,
        task: TaskId,
        target: PushTarget,
    ) -> Result<PushConfig> {
        self.check_push_target(&target)?;
        self.agent_task(assistant, task).await?;
        let within = self.permit(Action::ThreadsUpdate, || thread_value(task.thread_id)).await?.filter;
        let config = target.of(task);
        match self.storage.keep_push_config(config.clone(), within).await? {
            KeptPushConfig::Done => Ok(config),
            KeptPushConfig::NoTask => Err(Error::NotFound("task")),
            KeptPushConfig::TooMany => {
                Err(Error::Refused(format!("a task can have {MOST_PUSH_CONFIGS} push configs; delete one first")))
            }
        }
    }

    /// Where a task is told, by the ids of the configs.
    pub async fn push_configs(&self, assistant: AssistantId, task: TaskId) -> Result<Vec<PushConfig>> {
        self.agent_task(assistant, task).await?;
        Ok(self.storage.push_configs(task).await?)
    }

    /// Has a task told there no more. Says whether it was.
    pub async fn delete_push_config(&self, assistant: AssistantId, task: TaskId, id: String) -> Result<bool> {
        self.agent_task(assistant, task).await?;
        let within = self.permit(Action::ThreadsUpdate, || thread_value(task.thread_id)).await?.filter;
        Ok(self.storage.delete_push_config(task, id, within).await?)
    }
}
