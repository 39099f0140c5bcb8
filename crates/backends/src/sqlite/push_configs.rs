//! Push configs in SQLite.

use std::borrow::Cow;

use async_trait::async_trait;
use rusqlite::{Row, params};
use threadyard_core::{
    agent_parts::Version,
    agent_tasks::TaskId,
    metadata_filter::MetadataFilter,
    push_configs::{KeptPushConfig, MOST_PUSH_CONFIGS, PushConfig, PushConfigs},
    storage::Result,
    webhook_policy::WebhookHeaders,
};

use super::{
    Connection, Done, SqliteStorage,
    rows::{all, key, opened_as},
    threads,
};
use crate::cipher::Place;

#[async_trait]
impl PushConfigs for SqliteStorage {
    async fn keep_push_config(&self, config: PushConfig, within: MetadataFilter) -> Result<KeptPushConfig> {
        self.writer
            .write(move |connection| {
                if !threads::admitted(connection, config.task.thread_id, &within)? {
                    return Ok(KeptPushConfig::NoTask);
                }
                keep(connection, &config)
            })
            .await
    }

    async fn push_configs(&self, task: TaskId) -> Result<Vec<PushConfig>> {
        self.readers.read(move |connection| of_task(connection, task)).await
    }

    async fn delete_push_config(&self, task: TaskId, id: String, within: MetadataFilter) -> Result<bool> {
        self.writer
            .write(move |connection| {
                if !threads::admitted(connection, task.thread_id, &within)? {
                    return Ok(false);
                }
                let mut delete = connection.prepare_cached("DELETE FROM push_config WHERE run_id = ?1 AND id = ?2")?;
                Ok(delete.execute(params![key(task.run_id), id])? == 1)
            })
            .await
    }

    async fn sweep_push_configs(&self, limit: u32) -> Result<u64> {
        self.writer
            .write(move |connection| {
                let mut delete = connection.prepare_cached(
                    "DELETE FROM push_config WHERE (run_id, id) IN (
                         SELECT run_id, push_config.id FROM push_config
                         WHERE NOT EXISTS (SELECT 1 FROM run WHERE run.id = run_id) LIMIT ?1)",
                )?;
                Ok(delete.execute([limit])? as u64)
            })
            .await
    }
}

pub(super) fn keep(connection: &Connection, config: &PushConfig) -> Done<KeptPushConfig> {
    let task = key(config.task.run_id);
    let mut begun = connection.prepare_cached("SELECT 1 FROM run WHERE id = ?1 AND thread_id = ?2")?;
    if !begun.exists(params![task, key(config.task.thread_id)])? {
        return Ok(KeptPushConfig::NoTask);
    }
    let mut others = connection.prepare_cached("SELECT count(*) FROM push_config WHERE run_id = ?1 AND id <> ?2")?;
    if others.query_row(params![task, config.id], |row| row.get::<_, u32>(0))? >= MOST_PUSH_CONFIGS {
        return Ok(KeptPushConfig::TooMany);
    }
    let sealed = |column, text| {
        let place = Place::PushConfig(column, config.task.run_id.0, &config.id);
        connection.cipher().seal_text(place, text)
    };
    let url = sealed("url", Cow::from(&config.url))?;
    let headers = sealed("headers", serde_json::to_string(&config.headers.0)?.into())?;
    connection
        .prepare_cached(
            "INSERT INTO push_config (run_id, id, url, headers, version) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET url = excluded.url, headers = excluded.headers, version = excluded.version",
        )?
        .execute(params![task, config.id, url, headers, config.version.as_str()])?;
    Ok(KeptPushConfig::Done)
}

pub(super) fn of_task(connection: &Connection, task: TaskId) -> Done<Vec<PushConfig>> {
    let mut query = connection.prepare_cached("SELECT * FROM push_config WHERE run_id = ?1 ORDER BY id")?;
    all(&mut query, &[&key(task.run_id)], |row| config(connection, row, task))
}

fn config(connection: &Connection, row: &Row<'_>, task: TaskId) -> Done<PushConfig> {
    let (id, version): (String, String) = (row.get("id")?, row.get("version")?);
    let place = |column| Place::PushConfig(column, task.run_id.0, &id);
    let url = connection.cipher().open_text(place("url"), row.get("url")?)?;
    let headers = WebhookHeaders(opened_as(connection, row, place("headers"))?);
    Ok(PushConfig { task, url, headers, id, version: Version::parse(&version) })
}
