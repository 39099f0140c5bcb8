//! Finding threads at a cost that follows what is found, and not how many there are.
//!
//! A search by metadata reads the threads of its rarest field, if they are few. Otherwise threads are read in the order
//! that is asked for until there are enough; a search whose threads turn out to lie far behind goes by its rarest field
//! after all.

use sha2::{Digest, Sha256};
use threadyard_core::{
    ids::ThreadId,
    json::{Object, Value},
    page::{Order, Window},
    threads::{ThreadQuery, ThreadSort, ThreadStatus},
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Client,
    failures::Done,
    metadata::{self, Wanted},
    rows::{all, first, get, one, opened},
    scans::{contains, scan, understood},
    sql::Sql,
};
use crate::cipher::{Cipher, Place};

/// So many threads are few.
const FEW: i64 = 200;
/// So many threads are read in order before another way is taken.
const READ_IN_ORDER: usize = 2_000;
/// So many bytes of a text tell it from others well enough.
const LONG: usize = 256;

const BUSY: &str = "EXISTS (SELECT 1 FROM run WHERE run.thread = thread.k AND run.status IN ('pending', 'running'))";

/// The threads among which a search looks.
enum Among {
    /// Those with these ids.
    Ids(Vec<Uuid>),
    /// Those with this field.
    Tag(i64),
    /// Those with open runs.
    Open,
    /// All; those with this field, if there is one, should they lie far behind.
    All(Option<i64>),
}

/// The fields of metadata that hold no objects or lists, as numbers. Different fields may share one, so that a tag only
/// narrows a search.
pub(super) fn tags(metadata: &Object) -> Vec<i64> {
    let flat = metadata.iter().filter(|(_, value)| !value.is_object() && !value.is_array());
    let mut tags: Vec<_> = flat.map(|(key, value)| tag(key, value)).collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

fn tag(key: &str, value: &Value) -> i64 {
    let mut digest = Sha256::new();
    let mut text = |text: &str| {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(&text.as_bytes()[..text.len().min(LONG)]);
    };
    text(key);
    match value {
        Value::String(value) => text(value),
        // Both zeros are equal, and so must their tags be.
        Value::Number(number) if number.is_f64() => {
            digest.update((number.as_f64().unwrap_or_default() + 0.0).to_le_bytes());
        }
        other => digest.update(other.to_string()),
    }
    let digest = digest.finalize();
    i64::from_le_bytes(std::array::from_fn(|byte| digest[byte]))
}

/// The threads of a page, in order, and the one behind it.
pub(super) async fn keys(client: &mut Client, query: &ThreadQuery, window: Window) -> Done<Vec<i64>> {
    let (limit, offset) = (window.limit as usize + 1, window.offset as usize);
    if query.metadata.is_empty() && query.values.is_empty() && query.visible.is_empty() {
        let mut sql = candidates(&among(client, query).await?, query);
        ordered(&mut sql, query);
        sql.with("LIMIT ?", i64::from(window.limit) + 1);
        sql.with("OFFSET ?", i64::from(window.offset));
        let rows = all(client, &sql.text, &sql.parameters()).await?;
        return rows.iter().map(|row| get(row, "k")).collect();
    }
    match among(client, query).await? {
        Among::All(tag) => match read_in_order(client, query, limit, offset).await? {
            Some(keys) => Ok(keys),
            None => select(client, &fewer(client, tag, query).await?, query, (limit, offset)).await,
        },
        among => select(client, &among, query, (limit, offset)).await,
    }
}

/// How many threads match.
pub(super) async fn count(client: &mut Client, query: &ThreadQuery) -> Done<u64> {
    let among = match among(client, query).await? {
        Among::All(Some(tag)) => Among::Tag(tag),
        among => among,
    };
    let mut sql = candidates(&among, query);
    if query.metadata.is_empty() && query.values.is_empty() && query.visible.is_empty() {
        sql.text = format!("SELECT count(*) FROM ({}) AS found", sql.text);
        let count: i64 = get(&one(client, &sql.text, &sql.parameters()).await?, 0)?;
        return Ok(count.unsigned_abs());
    }
    let mut count = 0;
    let cipher = client.cipher().clone();
    scan(client, &sql, |row| {
        count += u64::from(matches(&cipher, row, query)?);
        Ok(false)
    })
    .await?;
    Ok(count)
}

async fn among(client: &Client, query: &ThreadQuery) -> Done<Among> {
    if !query.ids.is_empty() {
        return Ok(Among::Ids(query.ids.iter().map(|ThreadId(id)| *id).collect()));
    }
    let rarest = rarest(client, &query.metadata).await?;
    Ok(match rarest {
        Some((tag, count)) if count <= FEW => Among::Tag(tag),
        _ if query.status == Some(ThreadStatus::Busy) => Among::Open,
        rarest => Among::All(rarest.map(|(tag, _)| tag)),
    })
}

/// The field with the fewest threads, as far as counting a few of each can tell.
async fn rarest(client: &Client, metadata: &Object) -> Done<Option<(i64, i64)>> {
    let wanted = tags(metadata);
    if wanted.is_empty() {
        return Ok(None);
    }
    let sql = "SELECT tag, (SELECT count(*) FROM (
                 SELECT 1 FROM thread_tag WHERE thread_tag.tag = wanted.tag LIMIT $2::bigint + 1) AS counted) AS few
         FROM unnest($1::bigint[]) AS wanted (tag) ORDER BY few LIMIT 1";
    let found = first(client, sql, &[&wanted, &FEW]).await?;
    found.map(|row| Ok((get(&row, 0)?, get(&row, 1)?))).transpose()
}

/// Where fewer threads are to be read: among those with the field, or those with the status.
async fn fewer(client: &Client, tag: Option<i64>, query: &ThreadQuery) -> Done<Among> {
    let (tag, status) = match (tag, query.status) {
        (None, _) => return Ok(Among::All(None)),
        (Some(tag), None) => return Ok(Among::Tag(tag)),
        (Some(tag), Some(status)) => (tag, status),
    };
    let sql = "SELECT (SELECT count(*) FROM thread WHERE rest_status = $2) <
             (SELECT count(*) FROM thread_tag WHERE tag = $1)";
    let status_is_rarer = get(&one(client, sql, &[&tag, &status.as_str()]).await?, 0)?;
    Ok(if status_is_rarer { Among::All(None) } else { Among::Tag(tag) })
}

async fn select(
    client: &mut Client,
    among: &Among,
    query: &ThreadQuery,
    (limit, offset): (usize, usize),
) -> Done<Vec<i64>> {
    let mut sql = candidates(among, query);
    ordered(&mut sql, query);
    let mut page = Page::new(limit, offset, client.cipher());
    scan(client, &sql, |row| page.look(row, query)).await?;
    Ok(page.keys)
}

/// Reads threads in order until there are enough. `None` when they lie too far behind.
async fn read_in_order(
    client: &mut Client,
    query: &ThreadQuery,
    limit: usize,
    offset: usize,
) -> Done<Option<Vec<i64>>> {
    let mut sql = candidates(&Among::All(None), query);
    ordered(&mut sql, query);
    // With a limit the planner takes the index that has the order.
    sql.with("LIMIT ?", i64::try_from(READ_IN_ORDER).unwrap_or(i64::MAX));
    let (mut page, mut read) = (Page::new(limit, offset, client.cipher()), 0);
    let mut full = false;
    scan(client, &sql, |row| {
        read += 1;
        full = page.look(row, query)?;
        Ok(full)
    })
    .await?;
    Ok((full || read < READ_IN_ORDER).then_some(page.keys))
}

/// The part of what matches that is wanted.
struct Page {
    keys: Vec<i64>,
    limit: usize,
    passed_over: usize,
    cipher: Cipher,
}

impl Page {
    fn new(limit: usize, offset: usize, cipher: &Cipher) -> Self {
        Self { keys: Vec::new(), limit, passed_over: offset, cipher: cipher.clone() }
    }

    /// Takes a thread if it matches. Says whether there are enough.
    fn look(&mut self, row: &Row, query: &ThreadQuery) -> Done<bool> {
        if !matches(&self.cipher, row, query)? {
            return Ok(false);
        }
        match self.passed_over.checked_sub(1) {
            Some(left) => self.passed_over = left,
            None => self.keys.push(get(row, "k")?),
        }
        Ok(self.keys.len() >= self.limit)
    }
}

fn matches(cipher: &Cipher, row: &Row, query: &ThreadQuery) -> Done<bool> {
    if !query.visible.is_empty() && !metadata::admits(&query.visible, get(row, "metadata")?) {
        return Ok(false);
    }
    if !query.metadata.is_empty() && !contains(Some(get::<&str>(row, "metadata")?.as_bytes()), &query.metadata) {
        return Ok(false);
    }
    if query.values.is_empty() {
        return Ok(true);
    }
    let values = opened(cipher, row, Place::Thread("state_values", get(row, "id")?))?;
    Ok(contains(values.as_ref().map(|values| values.get().as_bytes()), &query.values))
}

/// The threads among which a search looks, as far as the database can tell.
fn candidates(among: &Among, query: &ThreadQuery) -> Sql {
    let mut sql = Sql::new("SELECT k");
    if !query.metadata.is_empty() || !query.visible.is_empty() {
        sql.add(", metadata");
    }
    if !query.values.is_empty() {
        // Values may be long: those that don't matter stay where they are.
        let pattern = understood(&query.values).to_string();
        let wanted = "starts_with(state_values, '~') OR json_has(state_values, ?::text::jsonb) IS NOT FALSE";
        sql.with(&format!(", id, CASE WHEN {wanted} THEN state_values END AS state_values"), pattern);
    }
    match among {
        Among::Ids(ids) => sql.with("FROM thread WHERE id = ANY(?)", ids.clone()),
        Among::Tag(tag) => sql.with("FROM thread_tag JOIN thread ON k = thread_tag.thread WHERE tag = ?", *tag),
        Among::Open => {
            sql.add("FROM thread WHERE k IN (SELECT run.thread FROM run WHERE run.status IN ('pending', 'running'))");
        }
        Among::All(_) => sql.add("FROM thread WHERE true"),
    }
    metadata::narrow(&mut sql, "metadata", Wanted { pattern: &Object::new(), visible: &query.visible });
    match query.status {
        None => {}
        Some(ThreadStatus::Busy) => sql.add(&format!("AND {BUSY}")),
        Some(at_rest) => sql.with(&format!("AND NOT {BUSY} AND rest_status = ?"), at_rest.as_str()),
    }
    sql
}

fn ordered(sql: &mut Sql, query: &ThreadQuery) {
    let column = match query.sort_by {
        ThreadSort::ThreadId => "id",
        ThreadSort::Status => &format!("CASE WHEN {BUSY} THEN 'busy' ELSE rest_status END"),
        ThreadSort::CreatedAt => "created_at",
        ThreadSort::UpdatedAt => "updated_at",
        ThreadSort::StateUpdatedAt => "state_updated_at",
    };
    let direction = match query.order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    };
    sql.add(&format!("ORDER BY {column} {direction}, k DESC"));
}
