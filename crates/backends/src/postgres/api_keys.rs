//! API keys in PostgreSQL.

use async_trait::async_trait;
use threadyard_core::{
    api_keys::{ApiKey, ApiKeys, KeyDigest},
    storage::{Result, StorageError},
    time::Timestamp,
};
use tokio_postgres::Row;

use super::{
    Client, PostgresStorage,
    failures::Done,
    rows::{Text, all, both, decoded, execute, first, get, optional_time, string, time},
};

#[async_trait]
impl ApiKeys for PostgresStorage {
    async fn create_api_key(&self, key: ApiKey, digest: KeyDigest) -> Result<bool> {
        self.transact((key, digest), |client, (key, digest)| Box::pin(create(client, key, *digest))).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>> {
        let sql = "SELECT * FROM api_key ORDER BY created_at DESC, id";
        let rows = all(&self.client().await?, sql, &[]).await?;
        Ok(rows.iter().map(api_key).collect::<Done<_>>()?)
    }

    async fn api_key(&self, id: &str) -> Result<Option<(ApiKey, KeyDigest)>> {
        let found = first(&self.client().await?, "SELECT * FROM api_key WHERE id = $1", &[&Text(id)]).await?;
        Ok(found.map(|row| Done::Ok((api_key(&row)?, digest(&row)?))).transpose()?)
    }

    async fn revoke_api_key(&self, id: &str, now: Timestamp) -> Result<bool> {
        self.at_once((id.to_owned(), now), |client, (id, now)| Box::pin(revoke(client, id, *now))).await
    }

    async fn note_use_of_api_key(&self, id: &str, now: Timestamp, noted_after: Timestamp) -> Result<()> {
        self.at_once((id.to_owned(), now, noted_after), |client, (id, now, noted_after)| {
            Box::pin(note_use(client, id, *now, *noted_after))
        })
        .await
    }
}

async fn create(client: &Client, key: &ApiKey, digest: KeyDigest) -> Done<bool> {
    // Two keys of one name are made one after the other.
    let alone = "LOCK TABLE api_key IN SHARE ROW EXCLUSIVE MODE";
    let sql = "INSERT INTO api_key (id, name, identity, scopes, digest, created_at, expires_at)
        SELECT $1, $2, $3, $4, $5, $6, $7 WHERE NOT EXISTS (
            SELECT 1 FROM api_key WHERE name = $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $6))
        RETURNING id";
    let scopes = serde_json::to_string(&key.scopes)?;
    let expires_at = key.expires_at.map(|end| end.0);
    let (_, made) = both(
        client,
        (alone, &[]),
        (
            sql,
            &[
                &Text(&key.id),
                &Text(&key.name),
                &Text(&key.identity),
                &scopes,
                &&digest.0[..],
                &key.created_at.0,
                &expires_at,
            ],
        ),
    )
    .await?;
    Ok(!made.is_empty())
}

async fn revoke(client: &Client, id: &str, now: Timestamp) -> Done<bool> {
    let sql = "UPDATE api_key SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1";
    Ok(execute(client, sql, &[&Text(id), &now.0]).await? > 0)
}

async fn note_use(client: &Client, id: &str, now: Timestamp, noted_after: Timestamp) -> Done<()> {
    let sql = "UPDATE api_key SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)";
    execute(client, sql, &[&Text(id), &now.0, &noted_after.0]).await?;
    Ok(())
}

fn api_key(row: &Row) -> Done<ApiKey> {
    Ok(ApiKey {
        id: string(row, "id")?,
        name: string(row, "name")?,
        identity: string(row, "identity")?,
        scopes: decoded("api_key", row, "scopes")?,
        created_at: time(row, "created_at")?,
        expires_at: optional_time(row, "expires_at")?,
        revoked_at: optional_time(row, "revoked_at")?,
        last_used_at: optional_time(row, "last_used_at")?,
    })
}

fn digest(row: &Row) -> Done<KeyDigest> {
    let corrupt = |why: &str| StorageError::Corrupt {
        table: "api_key",
        row: get::<&str>(row, "id").unwrap_or_default().into(),
        why: why.into(),
    };
    let bytes = get::<&[u8]>(row, "digest")?.try_into();
    Ok(KeyDigest(bytes.map_err(|_| corrupt("the digest does not have thirty-two bytes"))?))
}
