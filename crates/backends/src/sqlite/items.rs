//! Store items in SQLite. A namespace is a JSON list of labels, so that no label can be mistaken for two.

use async_trait::async_trait;
use rusqlite::{Row, params};
use threadyard_core::{
    items::{Embedding, FoundItem, Item, ItemAnswer, ItemOperation, ItemPut, ItemSearch, Items, NamespaceQuery},
    json::raw_from_text,
    storage::{Result, StorageError},
    time::Timestamp,
};

use super::{
    Connection, Done, SqliteStorage,
    rows::{all, first, text, time},
    vectors,
};
use crate::{
    cipher::Place,
    item_search::{listed, satisfies},
};

#[async_trait]
impl Items for SqliteStorage {
    async fn apply_items(&self, operations: Vec<ItemOperation>, now: Timestamp) -> Result<Vec<ItemAnswer>> {
        let writes = operations.iter().any(|operation| matches!(operation, ItemOperation::Put(_)));
        if writes {
            return self.writer.write(move |connection| apply(connection, &operations, now)).await;
        }
        let (answers, refreshed) = self.readers.read(move |connection| read(connection, &operations, now)).await?;
        if !refreshed.is_empty() {
            self.writer.write(move |connection| refresh(connection, &refreshed, now)).await?;
        }
        Ok(answers)
    }
}

/// Namespaces, as text, and keys of items.
type Keys = Vec<(String, String)>;

/// Answers the reads, and tells which items' times to live begin anew.
fn read(connection: &Connection, operations: &[ItemOperation], now: Timestamp) -> Done<(Vec<ItemAnswer>, Keys)> {
    let mut answers = Vec::with_capacity(operations.len());
    let mut refreshed = Keys::new();
    for operation in operations {
        answers.push(match operation {
            ItemOperation::Get { namespace, key, refresh, visible } => {
                let found = get(connection, namespace, key, now)?.filter(|it| it.item.is_admitted(visible));
                note(&mut refreshed, *refresh, found.iter())?;
                ItemAnswer::Item(found.map(|it| it.item))
            }
            ItemOperation::Search(query) => {
                let found = search(connection, query, now)?;
                note(&mut refreshed, query.refresh, found.iter())?;
                ItemAnswer::Items(found.into_iter().map(|it| FoundItem { item: it.item, score: it.score }).collect())
            }
            ItemOperation::ListNamespaces(query) => ItemAnswer::Namespaces(namespaces(connection, query, now)?),
            ItemOperation::Put(_) => ItemAnswer::Written,
        });
    }
    Ok((answers, refreshed))
}

fn note<'a>(refreshed: &mut Keys, refresh: bool, found: impl Iterator<Item = &'a Found>) -> Done<()> {
    for it in found.filter(|it| refresh && it.expires) {
        refreshed.push((serde_json::to_string(&it.item.namespace)?, it.item.key.clone()));
    }
    Ok(())
}

fn refresh(connection: &Connection, items: &Keys, now: Timestamp) -> Done<()> {
    let mut update =
        connection.prepare_cached("UPDATE item SET expires_at = ?3 + ttl WHERE namespace = ?1 AND key = ?2")?;
    for (namespace, key) in items {
        update.execute(params![namespace, key, now.0])?;
    }
    Ok(())
}

fn apply(connection: &Connection, operations: &[ItemOperation], now: Timestamp) -> Done<Vec<ItemAnswer>> {
    let (mut answers, refreshed) = read(connection, operations, now)?;
    refresh(connection, &refreshed, now)?;
    for (operation, answer) in operations.iter().zip(&mut answers) {
        match operation {
            ItemOperation::Put(item) if is_hidden(connection, item, now)? => *answer = ItemAnswer::Hidden,
            ItemOperation::Put(item) => put(connection, item, now)?,
            _ => {}
        }
    }
    Ok(answers)
}

/// Whether an item is there that a write may not touch.
fn is_hidden(connection: &Connection, put: &ItemPut, now: Timestamp) -> Done<bool> {
    if put.within.is_empty() {
        return Ok(false);
    }
    Ok(get(connection, &put.namespace, &put.key, now)?.is_some_and(|found| !found.item.is_admitted(&put.within)))
}

fn put(connection: &Connection, item: &ItemPut, now: Timestamp) -> Done<()> {
    let (namespace, key) = (serde_json::to_string(&item.namespace)?, &item.key);
    let Some(value) = &item.value else {
        let mut delete = connection.prepare_cached("DELETE FROM item WHERE namespace = ?1 AND key = ?2")?;
        return Ok(delete.execute(params![namespace, key]).map(drop)?);
    };
    // What is over is not there, so that something new takes its place.
    connection
        .prepare_cached("DELETE FROM item WHERE namespace = ?1 AND key = ?2 AND expires_at <= ?3")?
        .execute(params![namespace, key, now.0])?;
    let place = Place::Item { namespace: &item.namespace, key };
    let value = connection.cipher().seal_text(place, text(value))?;
    let ttl = item.ttl.map(|ttl| i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX));
    connection
        .prepare_cached(
            "INSERT INTO item (namespace, key, value, created_at, updated_at, ttl, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?4 + ?5)
             ON CONFLICT DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at,
                 ttl = excluded.ttl, expires_at = excluded.expires_at",
        )?
        .execute(params![namespace, key, value, now.0, ttl])?;
    connection
        .prepare_cached("DELETE FROM item_embedding WHERE namespace = ?1 AND key = ?2")?
        .execute(params![namespace, key])?;
    let mut insert = connection
        .prepare_cached("INSERT INTO item_embedding (namespace, key, model, vector) VALUES (?1, ?2, ?3, ?4)")?;
    for Embedding { model, vector } in &item.embeddings {
        insert.execute(params![namespace, key, model, vectors::blob(vector)])?;
    }
    Ok(())
}

/// An item that was found, how near it is, and whether it expires.
struct Found {
    item: Item,
    score: Option<f64>,
    expires: bool,
}

fn found(connection: &Connection, row: &Row<'_>) -> Done<Found> {
    Ok(Found { item: item(connection, row)?, score: None, expires: row.get::<_, Option<i64>>("ttl")?.is_some() })
}

fn get(connection: &Connection, namespace: &[String], key: &str, now: Timestamp) -> Done<Option<Found>> {
    let mut query = connection.prepare_cached(
        "SELECT * FROM item WHERE namespace = ?1 AND key = ?2 AND (expires_at IS NULL OR expires_at > ?3)",
    )?;
    first(&mut query, &[&serde_json::to_string(namespace)?, &key, &now.0], |row| found(connection, row))
}

/// Looks at one value after the other, in the order that is asked for, until the page is full.
fn search(connection: &Connection, search: &ItemSearch, now: Timestamp) -> Done<Vec<Found>> {
    let (from, to) = range(&search.prefix)?;
    let vector = search.query.as_ref().map(|query| vectors::blob(&query.vector));
    let mut ordered = connection.prepare_cached(if vector.is_some() { NEAREST } else { LAST_CHANGED })?;
    let mut rows = match &search.query {
        None => ordered.query(params![from, to, now.0])?,
        Some(query) => ordered.query(params![from, to, now.0, query.model, vector])?,
    };
    let (mut page, mut skipped) = (Vec::new(), 0);
    while page.len() < search.window.limit as usize {
        let Some(row) = rows.next()? else { break };
        let namespace = labels(row, 0)?;
        if !namespace.starts_with(&search.prefix) {
            continue;
        }
        let Some(found) = get(connection, &namespace, &row.get::<_, String>("key")?, now)? else { continue };
        if !found.item.is_admitted(&search.visible) || !satisfies(&found.item, &search.filter)? {
            continue;
        }
        if skipped < search.window.offset {
            skipped += 1;
        } else {
            page.push(Found { score: row.get("score")?, ..found });
        }
    }
    Ok(page)
}

const LAST_CHANGED: &str = "SELECT namespace, key, NULL AS score FROM item
    WHERE namespace >= ?1 AND namespace < ?2 AND (expires_at IS NULL OR expires_at > ?3)
    ORDER BY updated_at DESC, key";

/// The nearest text of an item counts. A vector without direction is as near as one at a right angle.
const NEAREST: &str = "SELECT item.namespace, item.key, score FROM item LEFT JOIN (
        SELECT namespace, key, max(coalesce(1 - vec_distance_cosine(vector, ?5), 0)) AS score FROM item_embedding
        WHERE namespace >= ?1 AND namespace < ?2 AND model = ?4 GROUP BY namespace, key
    ) USING (namespace, key)
    WHERE namespace >= ?1 AND namespace < ?2 AND (expires_at IS NULL OR expires_at > ?3)
    ORDER BY score DESC NULLS LAST, updated_at DESC, key";

/// The texts between which the namespaces with this prefix lie.
fn range(prefix: &[String]) -> Done<(String, String)> {
    let mut from = serde_json::to_string(prefix)?;
    from.pop();
    // Every namespace's text goes on with `]` or `,`, both of which come before this.
    let to = format!("{from}\u{10ffff}");
    Ok((from, to))
}

fn namespaces(connection: &Connection, query: &NamespaceQuery, now: Timestamp) -> Done<Vec<Vec<String>>> {
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT namespace FROM item WHERE expires_at IS NULL OR expires_at > ?1 ORDER BY namespace",
    )?;
    Ok(listed(all(&mut statement, &[&now.0], |row| labels(row, 0))?, query))
}

fn labels(row: &Row<'_>, column: usize) -> Done<Vec<String>> {
    Ok(serde_json::from_str(&row.get::<_, String>(column)?)?)
}

fn item(connection: &Connection, row: &Row<'_>) -> Done<Item> {
    let (namespace, key) = (labels(row, 0)?, row.get::<_, String>("key")?);
    let place = Place::Item { namespace: &namespace, key: &key };
    let value = connection.cipher().open_text(place, row.get("value")?)?;
    let value = raw_from_text(value).map_err(|error| StorageError::Corrupt {
        table: "item",
        row: key.clone(),
        why: error.to_string(),
    })?;
    Ok(Item { namespace, key, value, created_at: time(row, "created_at")?, updated_at: time(row, "updated_at")? })
}
