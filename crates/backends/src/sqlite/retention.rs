//! Retention in SQLite: threads whose time is over.

use async_trait::async_trait;
use rusqlite::params;
use threadyard_core::{
    checkpoints::PruneStrategy,
    ids::ThreadId,
    retention::{DeliveryTimes, Retention, SweptThreads},
    storage::Result,
    time::Timestamp,
};

use super::{
    Connection, Done, SqliteStorage, events, lineages,
    rows::{all, key, lineage_key, uuid, word},
    threads,
};

#[async_trait]
impl Retention for SqliteStorage {
    async fn sweep_threads(&self, now: Timestamp, limit: u32) -> Result<SweptThreads> {
        self.writer.write(move |connection| sweep(connection, now, limit)).await
    }

    async fn sweep_deliveries(&self, before: DeliveryTimes<Timestamp>, limit: u32) -> Result<u64> {
        self.writer
            .write(move |connection| {
                connection
                    .prepare_cached(
                        "DELETE FROM delivery_body WHERE delivery IN (
                             SELECT k FROM delivery WHERE finished_at < ?1 AND NOT erased ORDER BY finished_at LIMIT ?2)",
                    )?
                    .execute(params![before.body.0, limit])?;
                let erased = connection
                    .prepare_cached(
                        "UPDATE delivery SET erased = 1, url = shown_url, headers = NULL, maker = NULL WHERE k IN (
                             SELECT k FROM delivery WHERE finished_at < ?1 AND NOT erased ORDER BY finished_at LIMIT ?2)",
                    )?
                    .execute(params![before.body.0, limit])?;
                let swept = connection
                    .prepare_cached(
                        "DELETE FROM delivery WHERE k IN (
                             SELECT k FROM delivery WHERE finished_at < ?1 ORDER BY finished_at LIMIT ?2)",
                    )?
                    .execute(params![before.row.0, limit])?;
                Ok(erased.max(swept) as u64)
            })
            .await
    }

    async fn sweep_events(&self, ended_before: Timestamp, limit: u32) -> Result<u64> {
        self.writer.write(move |connection| events::sweep(connection, ended_before, limit)).await
    }

    async fn sweep_items(&self, now: Timestamp, limit: u32) -> Result<u64> {
        self.writer
            .write(move |connection| {
                let swept = connection
                    .prepare_cached(
                        "DELETE FROM item WHERE (namespace, key) IN (
                             SELECT namespace, key FROM item WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
                    )?
                    .execute(params![now.0, limit])?;
                Ok(swept as u64)
            })
            .await
    }
}

fn sweep(connection: &Connection, now: Timestamp, limit: u32) -> Done<SweptThreads> {
    let mut query = connection.prepare_cached(
        "SELECT id, ttl_strategy FROM thread WHERE expires_at <= ?1 AND NOT EXISTS (
             SELECT 1 FROM run WHERE run.thread = thread.k AND run.status IN ('pending', 'running')
         ) ORDER BY expires_at LIMIT ?2",
    )?;
    let over = all(&mut query, &[&now.0, &limit], |row| {
        Ok((ThreadId(uuid(row, "id")?), word::<PruneStrategy>("thread", row, "ttl_strategy")?))
    })?;
    let mut swept = SweptThreads::default();
    for (id, strategy) in over {
        match strategy {
            PruneStrategy::Delete => {
                threads::delete(connection, id)?;
                swept.deleted.push(id);
            }
            PruneStrategy::KeepLatest => {
                lineages::keep_latest(connection, &lineage_key(&id.to_string()))?;
                // Its time begins anew when it changes.
                connection
                    .prepare_cached("UPDATE thread SET expires_at = NULL WHERE id = ?1")?
                    .execute(params![key(id)])?;
                swept.pruned.push(id);
            }
        }
    }
    Ok(swept)
}
