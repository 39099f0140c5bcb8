//! What holds nothing that users say, or only what databases have to read.

use async_trait::async_trait;
use threadyard_core::{
    agent_task_list::{AgentTasks, TaskPage, TaskQuery},
    api_keys::{ApiKey, ApiKeys, KeyDigest},
    connections::{ConnectionState, Connections},
    page::Window,
    retention::{DeliveryTimes, Retention, SweptThreads},
    storage::Result,
    time::Timestamp,
    webhook_keys::{MasterKey, WebhookKey, WebhookKeys},
};

use super::SealedStorage;

#[async_trait]
impl AgentTasks for SealedStorage {
    async fn agent_tasks(&self, query: TaskQuery, window: Window) -> Result<TaskPage> {
        self.inner.agent_tasks(query, window).await
    }
}

#[async_trait]
impl ApiKeys for SealedStorage {
    async fn create_api_key(&self, key: ApiKey, digest: KeyDigest) -> Result<bool> {
        self.inner.create_api_key(key, digest).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        self.inner.api_keys().await
    }

    async fn api_key(&self, id: &str) -> Result<Option<(ApiKey, KeyDigest)>> {
        self.inner.api_key(id).await
    }

    async fn revoke_api_key(&self, id: &str, now: Timestamp) -> Result<bool> {
        self.inner.revoke_api_key(id, now).await
    }

    async fn note_use_of_api_key(&self, id: &str, now: Timestamp, noted_after: Timestamp) -> Result<()> {
        self.inner.note_use_of_api_key(id, now, noted_after).await
    }
}

#[async_trait]
impl WebhookKeys for SealedStorage {
    async fn webhook_keys(&self, first: MasterKey, now: Timestamp) -> Result<Vec<WebhookKey>> {
        self.inner.webhook_keys(first, now).await
    }

    async fn rotate_webhook_key(&self, master: MasterKey, now: Timestamp, until: Timestamp) -> Result<WebhookKey> {
        self.inner.rotate_webhook_key(master, now, until).await
    }
}

#[async_trait]
impl Retention for SealedStorage {
    async fn sweep_threads(&self, now: Timestamp, limit: u32) -> Result<SweptThreads> {
        self.inner.sweep_threads(now, limit).await
    }

    async fn sweep_deliveries(&self, before: DeliveryTimes<Timestamp>, limit: u32) -> Result<u64> {
        self.inner.sweep_deliveries(before, limit).await
    }

    async fn sweep_events(&self, ended_before: Timestamp, limit: u32) -> Result<u64> {
        self.inner.sweep_events(ended_before, limit).await
    }

    async fn sweep_items(&self, now: Timestamp, limit: u32) -> Result<u64> {
        self.inner.sweep_items(now, limit).await
    }
}

impl Connections for SealedStorage {
    fn connections(&self) -> Vec<ConnectionState> {
        self.inner.connections()
    }
}
