//! Push configs in PostgreSQL.

use std::borrow::Cow;

use async_trait::async_trait;
use threadyard_core::{
    agent_parts::Version,
    agent_tasks::TaskId,
    metadata_filter::MetadataFilter,
    push_configs::{KeptPushConfig, MOST_PUSH_CONFIGS, PushConfig, PushConfigs},
    storage::Result,
    webhook_policy::WebhookHeaders,
};
use tokio_postgres::Row;

use super::{
    Client, PostgresStorage,
    failures::Done,
    rows::{Parameter, Text, all, execute, first, get, opened_as, string},
    threads,
};
use crate::cipher::{Cipher, Place};

#[async_trait]
impl PushConfigs for PostgresStorage {
    async fn keep_push_config(&self, config: PushConfig, within: MetadataFilter) -> Result<KeptPushConfig> {
        self.transact((config, within), |client, (config, within)| {
            Box::pin(async move {
                if !threads::admitted(client, config.task.thread_id, within).await? {
                    return Ok(KeptPushConfig::NoTask);
                }
                keep(client, config).await
            })
        })
        .await
    }

    async fn push_configs(&self, task: TaskId) -> Result<Vec<PushConfig>> {
        Ok(of_task(&self.client().await?, task).await?)
    }

    async fn delete_push_config(&self, task: TaskId, id: String, within: MetadataFilter) -> Result<bool> {
        self.transact((task, id, within), |client, (task, id, within)| {
            Box::pin(async move {
                if !threads::admitted(client, task.thread_id, within).await? {
                    return Ok(false);
                }
                let sql = "DELETE FROM push_config WHERE run_id = $1 AND id = $2";
                Ok(execute(client, sql, &[&task.run_id.0, &Text(id)]).await? == 1)
            })
        })
        .await
    }

    async fn sweep_push_configs(&self, limit: u32) -> Result<u64> {
        self.at_once(limit, |client, limit| {
            Box::pin(async move {
                let sql = "DELETE FROM push_config WHERE (run_id, id) IN (
                         SELECT run_id, id FROM push_config
                         WHERE NOT EXISTS (SELECT 1 FROM run WHERE run.id = run_id) LIMIT $1)";
                execute(client, sql, &[&i64::from(*limit)]).await
            })
        })
        .await
    }
}

pub(super) async fn keep(client: &Client, config: &PushConfig) -> Done<KeptPushConfig> {
    let TaskId { thread_id, run_id } = config.task;
    // Held, so that the configs of a task are counted one after the other.
    let begun = "SELECT FROM run WHERE id = $1 AND thread_id = $2 FOR NO KEY UPDATE";
    if first(client, begun, &[&run_id.0, &thread_id.0]).await?.is_none() {
        return Ok(KeptPushConfig::NoTask);
    }
    let others = "SELECT count(*) AS others FROM push_config WHERE run_id = $1 AND id <> $2";
    let others = first(client, others, &[&run_id.0, &Text(&config.id)]).await?;
    if others.map(|row| get::<i64>(&row, "others")).transpose()?.unwrap_or(0) >= i64::from(MOST_PUSH_CONFIGS) {
        return Ok(KeptPushConfig::TooMany);
    }
    let sealed = |column, text| client.cipher().seal_text(Place::PushConfig(column, run_id.0, &config.id), text);
    let url = sealed("url", Cow::from(&config.url))?;
    let headers = sealed("headers", serde_json::to_string(&config.headers.0)?.into())?;
    let parameters: [Parameter<'_>; 5] =
        [&run_id.0, &Text(&config.id), &Text(&url), &headers, &config.version.as_str()];
    let sql = "INSERT INTO push_config (run_id, id, url, headers, version) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (run_id, id) DO UPDATE SET url = $3, headers = $4, version = $5";
    execute(client, sql, &parameters).await?;
    Ok(KeptPushConfig::Done)
}

pub(super) async fn of_task(client: &Client, task: TaskId) -> Done<Vec<PushConfig>> {
    let sql = "SELECT * FROM push_config WHERE run_id = $1 ORDER BY id";
    all(client, sql, &[&task.run_id.0]).await?.iter().map(|row| config(client.cipher(), row, task)).collect()
}

fn config(cipher: &Cipher, row: &Row, task: TaskId) -> Done<PushConfig> {
    let id = string(row, "id")?;
    let place = |column| Place::PushConfig(column, task.run_id.0, &id);
    let url = cipher.open_text(place("url"), string(row, "url")?)?;
    let headers = WebhookHeaders(opened_as(cipher, row, place("headers"))?);
    Ok(PushConfig { task, url, headers, id, version: Version::parse(get(row, "version")?) })
}
