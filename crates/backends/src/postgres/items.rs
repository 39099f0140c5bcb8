//! Store items in PostgreSQL. A namespace is a list of labels; those below one lie next to each other in its order.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use threadyard_core::{
    items::{FoundItem, Item, ItemAnswer, ItemOperation, ItemPut, ItemSearch, Items, NamespaceQuery},
    json::raw_from_text,
    storage::{Result, StorageError},
    time::Timestamp,
};
use tokio_postgres::Row;

use super::{
    Client, PostgresStorage,
    failures::Done,
    rows::{Parameter, Text, all, escaped, execute, first, get, string, time, unescaped},
    scans::scan,
    sql::Sql,
    vectors,
};
use crate::{
    cipher::{Cipher, Place as Sealed},
    item_search::{listed, satisfies},
};

/// No item lives for longer: what is later than all times can't be stored.
const LONGEST: i64 = i64::MAX / 2;

#[async_trait]
impl Items for PostgresStorage {
    async fn apply_items(&self, operations: Vec<ItemOperation>, now: Timestamp) -> Result<Vec<ItemAnswer>> {
        if operations.iter().any(is_about_meaning) {
            self.prepare_vectors().await?;
        }
        let (mut answers, refreshed) = read(&mut self.client().await?, &operations, now).await?;
        if operations.iter().any(is_held_to_some) {
            let hidden = self.transact((operations, refreshed, now), |client, (operations, refreshed, now)| {
                Box::pin(write_within(client, operations, refreshed, *now))
            });
            hidden.await?.into_iter().for_each(|nth| answers[nth] = ItemAnswer::Hidden);
            return Ok(answers);
        }
        let writes = Writes::new(puts(&operations).map(|(_, put)| put), refreshed);
        match writes.statements() {
            0 => {}
            1 => self.at_once((writes, now), |client, (writes, now)| Box::pin(write(client, writes, *now))).await?,
            _ => self.transact((writes, now), |client, (writes, now)| Box::pin(write(client, writes, *now))).await?,
        }
        Ok(answers)
    }
}

fn is_about_meaning(operation: &ItemOperation) -> bool {
    match operation {
        ItemOperation::Put(item) => item.value.is_some() && !item.embeddings.is_empty(),
        ItemOperation::Search(search) => search.query.is_some(),
        _ => false,
    }
}

/// Whether an operation is a write that may not touch every item.
fn is_held_to_some(operation: &ItemOperation) -> bool {
    matches!(operation, ItemOperation::Put(put) if !put.within.is_empty())
}

/// The writes of a batch, with their places in it.
fn puts(operations: &[ItemOperation]) -> impl Iterator<Item = (usize, &ItemPut)> {
    operations.iter().enumerate().filter_map(|(nth, operation)| match operation {
        ItemOperation::Put(put) => Some((nth, put)),
        _ => None,
    })
}

/// The namespace and the key of an item.
type Place = (Vec<String>, String);

/// Answers the reads, and tells which items' times to live begin anew.
async fn read(
    client: &mut Client,
    operations: &[ItemOperation],
    now: Timestamp,
) -> Done<(Vec<ItemAnswer>, BTreeSet<Place>)> {
    let gets = operations.iter().filter_map(|operation| match operation {
        ItemOperation::Get { namespace, key, .. } => Some(get_item(client, namespace, key, now)),
        _ => None,
    });
    let mut gotten = try_join_all(gets).await?.into_iter();
    let mut answers = Vec::with_capacity(operations.len());
    let mut refreshed = BTreeSet::new();
    for operation in operations {
        answers.push(match operation {
            ItemOperation::Get { refresh, visible, .. } => {
                let found = gotten.next().flatten().filter(|it| it.item.is_admitted(visible));
                note(&mut refreshed, *refresh, found.iter());
                ItemAnswer::Item(found.map(|it| it.item))
            }
            ItemOperation::Search(query) => {
                let found = search(client, query, now).await?;
                note(&mut refreshed, query.refresh, found.iter());
                ItemAnswer::Items(found.into_iter().map(|it| FoundItem { item: it.item, score: it.score }).collect())
            }
            ItemOperation::ListNamespaces(query) => ItemAnswer::Namespaces(namespaces(client, query, now).await?),
            ItemOperation::Put(_) => ItemAnswer::Written,
        });
    }
    Ok((answers, refreshed))
}

fn note<'a>(refreshed: &mut BTreeSet<Place>, refresh: bool, found: impl Iterator<Item = &'a Found>) {
    let expiring = found.filter(|it| refresh && it.expires);
    refreshed.extend(expiring.map(|it| (it.item.namespace.clone(), it.item.key.clone())));
}

/// What a batch changes, in the order of namespaces and keys, so that batches wait for each other in the same order.
struct Writes<'a> {
    refreshed: BTreeSet<Place>,
    /// Of several writes to an item the last counts; what was deleted before it begins anew.
    deleted: BTreeSet<Place>,
    kept: BTreeMap<Place, &'a ItemPut>,
}

impl<'a> Writes<'a> {
    fn new(puts: impl Iterator<Item = &'a ItemPut>, refreshed: BTreeSet<Place>) -> Self {
        let mut writes = Self { refreshed, deleted: BTreeSet::new(), kept: BTreeMap::new() };
        for put in puts {
            let place = (put.namespace.clone(), put.key.clone());
            if put.value.is_some() {
                writes.kept.insert(place, put);
            } else {
                writes.kept.remove(&place);
                writes.deleted.insert(place);
            }
        }
        writes
    }

    fn has_meaning(&self) -> bool {
        self.kept.values().any(|put| !put.embeddings.is_empty())
    }

    /// How many statements it takes.
    fn statements(&self) -> usize {
        let needed = [!self.refreshed.is_empty(), !self.deleted.is_empty(), !self.kept.is_empty(), self.has_meaning()];
        needed.into_iter().filter(|needed| *needed).count()
    }
}

/// Columns of namespaces, as text, and keys.
fn columns<'a>(places: impl Iterator<Item = &'a Place>) -> (Vec<String>, Vec<Text<'a>>) {
    places.map(|(namespace, key)| (literal(namespace), Text(key))).unzip()
}

/// A list of labels as the database writes it: lists of different lengths can't be bound as one.
fn literal(namespace: &[String]) -> String {
    let quoted = |label: &String| format!("\"{}\"", escaped(label).replace('\\', r"\\").replace('"', "\\\""));
    format!("{{{}}}", namespace.iter().map(quoted).collect::<Vec<_>>().join(","))
}

/// Writes what of a batch may be written, and says which of its operations may not.
async fn write_within(
    client: &Client,
    operations: &[ItemOperation],
    refreshed: &BTreeSet<Place>,
    now: Timestamp,
) -> Done<BTreeSet<usize>> {
    let mut hidden = BTreeSet::new();
    for (nth, put) in puts(operations).filter(|(_, put)| !put.within.is_empty()) {
        if !held(client, put, now).await? {
            hidden.insert(nth);
        }
    }
    let allowed = puts(operations).filter(|(nth, _)| !hidden.contains(nth)).map(|(_, put)| put);
    write(client, &Writes::new(allowed, refreshed.clone()), now).await?;
    Ok(hidden)
}

/// Holds the place of an item until the end of the transaction, and says whether the write may touch what is there.
async fn held(client: &Client, put: &ItemPut, now: Timestamp) -> Done<bool> {
    let labels: Vec<_> = put.namespace.iter().map(|label| Text(label)).collect();
    let found = "SELECT *, NULL::double precision AS score FROM item WHERE namespace = $1 AND key = $2 FOR UPDATE";
    let made = "INSERT INTO item (namespace, key, value, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)
         ON CONFLICT DO NOTHING";
    loop {
        if let Some(row) = first(client, found, &[&labels, &Text(&put.key)]).await? {
            let is_over = get::<Option<i64>>(&row, "expires_at")?.is_some_and(|at| at <= now.0);
            return Ok(is_over || item(client.cipher(), &row)?.is_admitted(&put.within));
        }
        // Somebody else's item may come to be there at the same time.
        let Some(value) = &put.value else { return Ok(true) };
        let value = client.cipher().seal_text(place(put), value.get())?;
        if execute(client, made, &[&labels, &Text(&put.key), &value, &now.0]).await? == 1 {
            return Ok(true);
        }
    }
}

async fn write(client: &Client, writes: &Writes<'_>, now: Timestamp) -> Done<()> {
    if !writes.deleted.is_empty() {
        delete(client, writes).await?;
    }
    if !writes.kept.is_empty() {
        put(client, writes, now).await?;
    }
    if !writes.refreshed.is_empty() {
        // Whoever is writing an item begins its time anew as well.
        let sql = "WITH read AS (
                 SELECT item.namespace, item.key FROM unnest($1::text[], $2::text[]) AS place (namespace, key)
                 JOIN item ON item.namespace = place.namespace::text[] AND item.key = place.key
                 FOR UPDATE OF item SKIP LOCKED)
             UPDATE item SET expires_at = $3 + ttl FROM read
             WHERE item.namespace = read.namespace AND item.key = read.key";
        let (namespaces, keys) = columns(writes.refreshed.iter());
        execute(client, sql, &[&namespaces, &keys, &now.0]).await?;
    }
    Ok(())
}

/// Deletes what is to be deleted, and first holds whatever the batch writes: who holds some of it and then wants more could
/// stand in the way of somebody who stands in its own.
async fn delete(client: &Client, writes: &Writes<'_>) -> Done<()> {
    let sql = "WITH held AS (
             SELECT item.namespace, item.key, place.goes
             FROM unnest($1::text[], $2::text[], $3::boolean[]) WITH ORDINALITY AS place (namespace, key, goes, nth)
             JOIN item ON item.namespace = place.namespace::text[] AND item.key = place.key
             ORDER BY nth FOR UPDATE OF item)
         DELETE FROM item USING held WHERE goes AND item.namespace = held.namespace AND item.key = held.key";
    let places: BTreeSet<_> = writes.deleted.iter().chain(writes.kept.keys()).collect();
    let goes: Vec<_> = places.iter().map(|place| writes.deleted.contains(*place)).collect();
    let (namespaces, keys) = columns(places.into_iter());
    execute(client, sql, &[&namespaces, &keys, &goes]).await?;
    Ok(())
}

async fn put(client: &Client, writes: &Writes<'_>, now: Timestamp) -> Done<()> {
    // What is over is not there, so that something new takes its place.
    let sql = "INSERT INTO item (namespace, key, value, created_at, updated_at, ttl, expires_at)
         SELECT namespace::text[], key, value, $5::bigint, $5, ttl, $5 + ttl
         FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS put (namespace, key, value, ttl)
         ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at,
             ttl = excluded.ttl, expires_at = excluded.expires_at,
             created_at = CASE WHEN item.expires_at <= $5 THEN $5 ELSE item.created_at END";
    let (namespaces, keys) = columns(writes.kept.keys());
    let sealed = writes.kept.values().map(|put| {
        let value = put.value.as_ref().map(|value| value.get());
        value.map(|value| client.cipher().seal_text(place(put), value)).transpose()
    });
    let values = sealed.collect::<Result<Vec<_>>>()?;
    let ttls: Vec<_> = writes.kept.values().map(|put| put.ttl.map(ttl)).collect();
    execute(client, sql, &[&namespaces, &keys, &values, &ttls, &now.0]).await?;
    if !writes.has_meaning() {
        return Ok(());
    }
    let meanings = || writes.kept.iter().flat_map(|(place, put)| put.embeddings.iter().map(move |it| (place, it)));
    let (namespaces, keys) = columns(meanings().map(|(place, _)| place));
    let (models, vectors): (Vec<_>, Vec<_>) =
        meanings().map(|(_, it)| (Text(&it.model), vectors::text(&it.vector))).unzip();
    let sql = "INSERT INTO item_embedding (namespace, key, model, vector)
         SELECT namespace::text[], key, model, vector::vector
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS meaning (namespace, key, model, vector)";
    execute(client, sql, &[&namespaces, &keys, &models, &vectors]).await?;
    Ok(())
}

/// Where the value of an item is.
fn place(put: &ItemPut) -> Sealed<'_> {
    Sealed::Item { namespace: &put.namespace, key: &put.key }
}

fn ttl(ttl: std::time::Duration) -> i64 {
    i64::try_from(ttl.as_micros()).unwrap_or(LONGEST).min(LONGEST)
}

/// An item that was found, how near it is, and whether it expires.
struct Found {
    item: Item,
    score: Option<f64>,
    expires: bool,
}

fn found(cipher: &Cipher, row: &Row) -> Done<Found> {
    Ok(Found {
        item: item(cipher, row)?,
        score: get(row, "score")?,
        expires: get::<Option<i64>>(row, "ttl")?.is_some(),
    })
}

async fn get_item(client: &Client, namespace: &[String], key: &str, now: Timestamp) -> Done<Option<Found>> {
    let sql = "SELECT *, NULL::double precision AS score FROM item
         WHERE namespace = $1 AND key = $2 AND (expires_at IS NULL OR expires_at > $3)";
    let labels: Vec<_> = namespace.iter().map(|label| Text(label)).collect();
    let parameters: [Parameter<'_>; 3] = [&labels, &Text(key), &now.0];
    first(client, sql, &parameters).await?.map(|row| found(client.cipher(), &row)).transpose()
}

/// Looks at one value after the other, in the order that is asked for, until the page is full.
async fn search(client: &mut Client, search: &ItemSearch, now: Timestamp) -> Done<Vec<Found>> {
    let mut sql = candidates(search, now);
    let window = search.window;
    if search.filter.is_empty() && search.visible.is_empty() {
        sql.with("LIMIT ?", i64::from(window.limit));
        sql.with("OFFSET ?", i64::from(window.offset));
        let rows = all(client, &sql.text, &sql.parameters()).await?;
        return rows.iter().map(|row| found(client.cipher(), row)).collect();
    }
    let cipher = client.cipher().clone();
    let (mut page, mut passed_over) = (Vec::new(), window.offset);
    scan(client, &sql, |row| {
        let found = found(&cipher, row)?;
        if found.item.is_admitted(&search.visible) && satisfies(&found.item, &search.filter)? {
            match passed_over.checked_sub(1) {
                Some(left) => passed_over = left,
                None => page.push(found),
            }
        }
        Ok(page.len() >= window.limit as usize)
    })
    .await?;
    page.truncate(window.limit as usize);
    Ok(page)
}

/// What a search looks at, in order.
fn candidates(search: &ItemSearch, now: Timestamp) -> Sql {
    let mut sql = match &search.query {
        None => Sql::new("SELECT *, NULL::double precision AS score FROM item"),
        Some(query) => {
            let mut sql = Sql::new("SELECT item.*, score FROM item LEFT JOIN ( SELECT namespace, key,");
            sql.with(vectors::SCORE, vectors::text(&query.vector));
            sql.with("FROM item_embedding WHERE model = ?", escaped(&query.model).into_owned());
            below(&mut sql, "namespace", &search.prefix);
            sql.add("GROUP BY namespace, key) AS nearest USING (namespace, key)");
            sql
        }
    };
    sql.with("WHERE (expires_at IS NULL OR expires_at > ?)", now.0);
    below(&mut sql, "item.namespace", &search.prefix);
    let nearness = if search.query.is_some() { "score DESC NULLS LAST," } else { "" };
    sql.add(&format!("ORDER BY {nearness} updated_at DESC, item.key"));
    sql
}

/// Adds the condition that a namespace begins with these labels.
fn below(sql: &mut Sql, column: &str, prefix: &[String]) {
    let Some((last, before)) = prefix.split_last() else { return };
    let mut from: Vec<_> = before.iter().map(|label| escaped(label).into_owned()).collect();
    let mut to = from.clone();
    from.push(escaped(last).into_owned());
    // No text lies between one and the same with the least character behind it.
    to.push(format!("{}\u{1}", escaped(last)));
    sql.with(&format!("AND {column} >= ?"), from);
    sql.with(&format!("AND {column} < ?"), to);
}

async fn namespaces(client: &Client, query: &NamespaceQuery, now: Timestamp) -> Done<Vec<Vec<String>>> {
    let mut sql = Sql::new("SELECT DISTINCT namespace FROM item");
    sql.with("WHERE (expires_at IS NULL OR expires_at > ?)", now.0);
    let known = query.prefix.iter().take_while(|label| *label != "*").count();
    below(&mut sql, "namespace", &query.prefix[..known]);
    let found = all(client, &sql.text, &sql.parameters()).await?;
    Ok(listed(found.iter().map(labels).collect::<Done<_>>()?, query))
}

fn labels(row: &Row) -> Done<Vec<String>> {
    Ok(get::<Vec<&str>>(row, "namespace")?.into_iter().map(unescaped).collect())
}

fn item(cipher: &Cipher, row: &Row) -> Done<Item> {
    let (namespace, key) = (labels(row)?, string(row, "key")?);
    let value = cipher.open_text(Sealed::Item { namespace: &namespace, key: &key }, get(row, "value")?)?;
    let value = raw_from_text(value).map_err(|error| StorageError::Corrupt {
        table: "item",
        row: key.clone(),
        why: error.to_string(),
    })?;
    Ok(Item { namespace, key, value, created_at: time(row, "created_at")?, updated_at: time(row, "updated_at")? })
}
