//! The keys of webhooks in SQLite.

use async_trait::async_trait;
use rusqlite::{Row, params};
use threadyard_core::{
    storage::Result,
    time::Timestamp,
    webhook_keys::{MasterKey, WebhookKey, WebhookKeys},
};

use super::{
    Connection, Done, SqliteStorage,
    rows::{all, first, time},
};

#[async_trait]
impl WebhookKeys for SqliteStorage {
    async fn webhook_keys(&self, first: MasterKey, now: Timestamp) -> Result<Vec<WebhookKey>> {
        self.writer
            .write(move |connection| {
                connection
                    .prepare_cached(
                        "INSERT INTO webhook_key (master, created_at) SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM webhook_key)",
                    )?
                    .execute(params![first.0, now.0])?;
                let mut query = connection.prepare_cached(
                    "SELECT * FROM webhook_key WHERE expires_at IS NULL OR expires_at > ?1 ORDER BY version DESC",
                )?;
                all(&mut query, &[&now.0], webhook_key)
            })
            .await
    }

    async fn rotate_webhook_key(&self, master: MasterKey, now: Timestamp, until: Timestamp) -> Result<WebhookKey> {
        self.writer.write(move |connection| rotate(connection, &master, now, until)).await
    }
}

fn rotate(connection: &Connection, master: &MasterKey, now: Timestamp, until: Timestamp) -> Done<WebhookKey> {
    connection
        .prepare_cached("UPDATE webhook_key SET expires_at = min(coalesce(expires_at, ?1), ?1)")?
        .execute([until.0])?;
    let mut insert =
        connection.prepare_cached("INSERT INTO webhook_key (master, created_at) VALUES (?1, ?2) RETURNING *")?;
    let made = first(&mut insert, &[&master.0, &now.0], webhook_key)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    // What signs no more is of no use to anybody else either.
    connection.prepare_cached("DELETE FROM webhook_key WHERE expires_at <= ?1")?.execute([now.0])?;
    Ok(made)
}

fn webhook_key(row: &Row<'_>) -> Done<WebhookKey> {
    Ok(WebhookKey {
        version: row.get("version")?,
        master: MasterKey(row.get("master")?),
        created_at: time(row, "created_at")?,
        expires_at: row.get::<_, Option<i64>>("expires_at")?.map(Timestamp),
    })
}
