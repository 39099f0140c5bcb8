//! The keys of webhooks in PostgreSQL.

use async_trait::async_trait;
use threadyard_core::{
    storage::{Result, StorageError},
    time::Timestamp,
    webhook_keys::{MasterKey, WebhookKey, WebhookKeys},
};
use tokio_postgres::Row;

use super::{
    Client, PostgresStorage,
    failures::Done,
    rows::{all, both, count, execute, get, one, optional_time, time},
};

#[async_trait]
impl WebhookKeys for PostgresStorage {
    async fn webhook_keys(&self, first: MasterKey, now: Timestamp) -> Result<Vec<WebhookKey>> {
        let found = signing(&self.client().await?, now).await?;
        if !found.is_empty() {
            return Ok(found);
        }
        self.transact((first, now), |client, (first, now)| Box::pin(make_first(client, first, *now))).await
    }

    async fn rotate_webhook_key(&self, master: MasterKey, now: Timestamp, until: Timestamp) -> Result<WebhookKey> {
        self.transact((master, now, until), |client, (master, now, until)| {
            Box::pin(rotate(client, master, *now, *until))
        })
        .await
    }
}

/// Whoever makes a key looks first which there are: servers do so one after the other.
const ALONE: &str = "LOCK TABLE webhook_key IN SHARE ROW EXCLUSIVE MODE";

const MAKE: &str = "INSERT INTO webhook_key (version, master, created_at)
    SELECT coalesce(max(version), 0) + 1, $1, $2 FROM webhook_key";

/// The keys that sign, the newest first.
async fn signing(client: &Client, now: Timestamp) -> Done<Vec<WebhookKey>> {
    let sql = "SELECT * FROM webhook_key WHERE expires_at IS NULL OR expires_at > $1 ORDER BY version DESC";
    all(client, sql, &[&now.0]).await?.iter().map(webhook_key).collect()
}

async fn make_first(client: &Client, first: &MasterKey, now: Timestamp) -> Done<Vec<WebhookKey>> {
    // Who was waited for may have made it.
    let sql = format!("{MAKE} HAVING count(*) = 0");
    both(client, (ALONE, &[]), (&sql, &[&&first.0[..], &now.0])).await?;
    signing(client, now).await
}

async fn rotate(client: &Client, master: &MasterKey, now: Timestamp, until: Timestamp) -> Done<WebhookKey> {
    let ending = "UPDATE webhook_key SET expires_at = least(expires_at, $1)";
    both(client, (ALONE, &[]), (ending, &[&until.0])).await?;
    let made = one(client, &format!("{MAKE} RETURNING *"), &[&&master.0[..], &now.0]).await?;
    // What signs no more is of no use to anybody else either.
    execute(client, "DELETE FROM webhook_key WHERE expires_at <= $1", &[&now.0]).await?;
    webhook_key(&made)
}

fn webhook_key(row: &Row) -> Done<WebhookKey> {
    let version = count(row, "version")?;
    let master = get::<&[u8]>(row, "master")?.try_into().map_err(|_| StorageError::Corrupt {
        table: "webhook_key",
        row: version.to_string(),
        why: "the key does not have thirty-two bytes".into(),
    })?;
    Ok(WebhookKey {
        version,
        master: MasterKey(master),
        created_at: time(row, "created_at")?,
        expires_at: optional_time(row, "expires_at")?,
    })
}
