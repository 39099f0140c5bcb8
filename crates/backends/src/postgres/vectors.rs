//! Vectors in PostgreSQL: the extension `vector` holds and compares them. A database need not have it as long as nobody
//! looks for items by their meaning.

use threadyard_core::storage::{Result, StorageError};

use super::{
    Client, Pool, PostgresStorage,
    failures::Done,
    rows::{all, get, one},
    transaction,
};

/// What says how to go on without the extension.
const MISSING: &str = "finding items by their meaning needs the extension `vector` (pgvector) in the PostgreSQL database: \
     install it on the server, and have `CREATE EXTENSION vector` done in the database by somebody who may do that";

/// Whoever makes the table holds the lock of this number.
const MAKING: i64 = 0x7468_7265_6164_7665;

/// What the texts of items mean, as `model` sees it. It goes when its item is written anew, or deleted.
const TABLE: &str = "CREATE TABLE item_embedding (
        namespace text[] COLLATE \"C\" NOT NULL,
        key text COLLATE \"C\" NOT NULL,
        model text COLLATE \"C\" NOT NULL,
        vector vector NOT NULL
    );
    CREATE INDEX item_embedding_item ON item_embedding (namespace, key);
    CREATE FUNCTION item_embeddings() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM item_embedding WHERE namespace = OLD.namespace AND key = OLD.key;
        RETURN NULL;
    END $$;
    CREATE TRIGGER item_rewritten AFTER DELETE OR UPDATE OF value ON item
        FOR EACH ROW EXECUTE FUNCTION item_embeddings()";

/// The score of the nearest text of each item. A vector without direction is as near as one at a right angle.
pub(super) const SCORE: &str = "max(coalesce(nullif(1 - (vector <=> ?::text::vector), 'NaN'), 0)) AS score";

impl PostgresStorage {
    /// Sees to it that vectors can be kept and compared.
    pub(super) async fn prepare_vectors(&self) -> Result<()> {
        prepare(&self.pool).await
    }
}

/// Makes the table of vectors unless it is there.
pub(super) async fn prepare(pool: &Pool) -> Result<()> {
    let installed: bool = {
        let client = pool.get().await?;
        if is_there(&client).await? {
            return Ok(());
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'vector')";
        get(&one(&client, sql, &[]).await?, 0)?
    };
    if !installed {
        return Err(StorageError::Unsupported(MISSING.into()));
    }
    transaction::transact(pool, &(), |client, ()| Box::pin(make(client))).await
}

pub(super) async fn is_there(client: &Client) -> Done<bool> {
    get(&one(client, "SELECT to_regclass('item_embedding') IS NOT NULL", &[]).await?, 0)
}

async fn make(client: &Client) -> Done<()> {
    all(client, "SELECT pg_advisory_xact_lock($1)", &[&MAKING]).await?;
    // Who was waited for has made it.
    if !is_there(client).await? {
        client.batch_execute(TABLE).await?;
    }
    Ok(())
}

/// A vector as the extension reads it.
pub(super) fn text(vector: &[f32]) -> String {
    let numbers: Vec<_> = vector.iter().map(ToString::to_string).collect();
    format!("[{}]", numbers.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_a_list_of_numbers() {
        assert_eq!(text(&[1.0, -0.25, 1e-7]), "[1,-0.25,0.0000001]");
    }
}
