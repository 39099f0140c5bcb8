//! The keys that values of the database are sealed with.

use tokio_postgres::Client;

use super::schema::PostgresOpenError;
use crate::cipher::{Cipher, KnownKey};

/// Finds them among those of this server, and adds its own. A database that it can't read is not served.
pub(super) async fn admit(client: &Client, cipher: &Cipher) -> Result<(), PostgresOpenError> {
    for new in cipher.admit(&known(client).await?)? {
        add(client, &new).await?;
    }
    Ok(())
}

pub(super) async fn known(client: &Client) -> Result<Vec<KnownKey>, PostgresOpenError> {
    let rows = client.query("SELECT id, sealed FROM encryption_key ORDER BY k", &[]).await?;
    rows.iter().map(|row| Ok(KnownKey { id: row.try_get(0)?, sealed: row.try_get(1)? })).collect()
}

/// Of servers that start at once, one adds the key.
async fn add(client: &Client, key: &KnownKey) -> Result<(), PostgresOpenError> {
    let sql = "INSERT INTO encryption_key (id, sealed) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING";
    client.execute(sql, &[&key.id, &key.sealed]).await?;
    Ok(())
}
