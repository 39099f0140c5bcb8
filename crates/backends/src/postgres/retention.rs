//! Retention in PostgreSQL: threads whose time is over. Several servers sweep at once, and pass over what another treats.

use async_trait::async_trait;
use threadyard_core::{
    checkpoints::PruneStrategy,
    ids::ThreadId,
    retention::{DeliveryTimes, Retention, SweptThreads},
    storage::Result,
    time::Timestamp,
};

use super::{
    Client, PostgresStorage, events,
    failures::Done,
    lineages,
    rows::{all, both, execute, uuid, word},
    threads,
};

#[async_trait]
impl Retention for PostgresStorage {
    async fn sweep_threads(&self, now: Timestamp, limit: u32) -> Result<SweptThreads> {
        self.transact((now, limit), |client, (now, limit)| Box::pin(sweep(client, *now, *limit))).await
    }

    async fn sweep_deliveries(&self, before: DeliveryTimes<Timestamp>, limit: u32) -> Result<u64> {
        self.transact((before, limit), |client, (before, limit)| Box::pin(sweep_deliveries(client, *before, *limit)))
            .await
    }

    async fn sweep_events(&self, ended_before: Timestamp, limit: u32) -> Result<u64> {
        self.at_once((ended_before, limit), |client, (ended_before, limit)| {
            Box::pin(events::sweep(client, *ended_before, *limit))
        })
        .await
    }

    async fn sweep_items(&self, now: Timestamp, limit: u32) -> Result<u64> {
        self.at_once((now, limit), |client, (now, limit)| {
            Box::pin(async move {
                let sql = "WITH over AS (
                         SELECT namespace, key FROM item WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2
                         FOR UPDATE SKIP LOCKED)
                     DELETE FROM item USING over WHERE item.namespace = over.namespace AND item.key = over.key";
                execute(client, sql, &[&now.0, &i64::from(*limit)]).await
            })
        })
        .await
    }
}

async fn sweep_deliveries(client: &Client, before: DeliveryTimes<Timestamp>, limit: u32) -> Done<u64> {
    let erase = "WITH over AS (
             SELECT k FROM delivery WHERE finished_at < $1 AND NOT erased ORDER BY finished_at LIMIT $2
             FOR UPDATE SKIP LOCKED),
         bodies AS (DELETE FROM delivery_body USING over WHERE delivery = k)
         UPDATE delivery SET erased = true, url = shown_url, headers = NULL, maker = NULL
         FROM over WHERE delivery.k = over.k RETURNING delivery.k";
    let sweep = "WITH over AS (
             SELECT k FROM delivery WHERE finished_at < $1 ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED)
         DELETE FROM delivery USING over WHERE delivery.k = over.k RETURNING delivery.k";
    let limit = i64::from(limit);
    let (erased, swept) = both(client, (erase, &[&before.body.0, &limit]), (sweep, &[&before.row.0, &limit])).await?;
    Ok(erased.len().max(swept.len()) as u64)
}

/// Who makes a run on a thread puts its end off first, so that none is taken that has something to do.
async fn sweep(client: &Client, now: Timestamp, limit: u32) -> Done<SweptThreads> {
    let sql = "SELECT id, ttl_strategy FROM thread WHERE expires_at <= $1 AND NOT EXISTS (
             SELECT 1 FROM run WHERE run.thread = thread.k AND run.status IN ('pending', 'running')
         ) ORDER BY expires_at LIMIT $2 FOR UPDATE OF thread SKIP LOCKED";
    let mut swept = SweptThreads::default();
    for row in all(client, sql, &[&now.0, &i64::from(limit)]).await? {
        let id = ThreadId(uuid(&row, "id")?);
        match word("thread", &row, "ttl_strategy")? {
            PruneStrategy::Delete => {
                threads::delete(client, id).await?;
                swept.deleted.push(id);
            }
            PruneStrategy::KeepLatest => {
                lineages::keep_latest(client, &id.to_string()).await?;
                // Its time begins anew when it changes.
                execute(client, "UPDATE thread SET expires_at = NULL WHERE id = $1", &[&id.0]).await?;
                swept.pruned.push(id);
            }
        }
    }
    Ok(swept)
}
