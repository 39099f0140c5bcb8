//! Finding threads at a cost that follows what is found, and not how many there are.
//!
//! A search by metadata reads the threads of its rarest field, if they are few. Otherwise threads are read in the order
//! that is asked for until there are enough; a search whose threads turn out to lie far behind goes by its rarest field
//! after all.

use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};
use threadyard_core::{
    json::Object,
    page::Window,
    threads::{ThreadQuery, ThreadSort, ThreadStatus},
};

use super::{Connection, Done, assistants::direction, sql::Sql};

/// So many threads are few.
const FEW: i64 = 200;
/// So many threads are read in order before another way is taken.
const READ_IN_ORDER: usize = 2_000;

/// So many bytes of a text tell it from others well enough.
const LONG: usize = 256;

const BUSY: &str = "EXISTS (SELECT 1 FROM run WHERE run.thread = thread.k AND run.status IN ('pending', 'running'))";

/// The threads among which a search looks.
pub(super) enum Among {
    /// Those with these ids.
    Ids(String),
    /// Those with this field.
    Tag(i64),
    /// Those with open runs.
    Open,
    /// All; those with this field, if there is one, should they lie far behind.
    All(Option<i64>),
}

/// A field of metadata as a number. Different fields may share one, so that a tag only narrows a search.
pub(super) fn tag(key: ValueRef<'_>, value: ValueRef<'_>) -> i64 {
    let mut digest = Sha256::new();
    for part in [key, value] {
        match part {
            ValueRef::Null => digest.update([0]),
            ValueRef::Integer(number) => digest.update([&[1], &number.to_le_bytes()[..]].concat()),
            // Both zeros are equal, and so must their tags be.
            ValueRef::Real(number) => digest.update([&[2], &(number + 0.0).to_le_bytes()[..]].concat()),
            ValueRef::Text(text) | ValueRef::Blob(text) => {
                digest.update([3]);
                digest.update((text.len() as u64).to_le_bytes());
                digest.update(&text[..text.len().min(LONG)]);
            }
        }
    }
    let digest = digest.finalize();
    i64::from_le_bytes(std::array::from_fn(|byte| digest[byte]))
}

/// The threads of a page, in order, and the one behind it.
pub(super) fn keys(connection: &Connection, query: &ThreadQuery, window: Window) -> Done<Vec<i64>> {
    let (limit, offset) = (window.limit as usize + 1, window.offset as usize);
    match among(connection, query)? {
        Among::All(Some(tag)) => match read_in_order(connection, query, limit, offset)? {
            Some(keys) => Ok(keys),
            None => select(connection, &fewer(connection, tag, query)?, query, limit, offset),
        },
        among => select(connection, &among, query, limit, offset),
    }
}

/// How many threads match.
pub(super) fn count(connection: &Connection, query: &ThreadQuery) -> Done<u64> {
    let among = match among(connection, query)? {
        Among::All(Some(tag)) => Among::Tag(tag),
        among => among,
    };
    let mut sql = Sql::new("SELECT count(*) FROM");
    sql.among(&among);
    sql.matching(query)?;
    let count: i64 = connection.prepare_cached(&sql.text)?.query_row(&*sql.parameters(), |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

fn among(connection: &Connection, query: &ThreadQuery) -> Done<Among> {
    if !query.ids.is_empty() {
        let ids: Vec<_> = query.ids.iter().map(|id| id.0.simple().to_string()).collect();
        return Ok(Among::Ids(serde_json::to_string(&ids)?));
    }
    let rarest = rarest(connection, &query.metadata)?;
    Ok(match rarest {
        Some((tag, count)) if count <= FEW => Among::Tag(tag),
        _ if query.status == Some(ThreadStatus::Busy) => Among::Open,
        rarest => Among::All(rarest.map(|(tag, _)| tag)),
    })
}

/// The field with the fewest threads, as far as counting a few of each can tell.
fn rarest(connection: &Connection, metadata: &Object) -> Done<Option<(i64, i64)>> {
    if metadata.is_empty() {
        return Ok(None);
    }
    let sql = format!(
        "SELECT tag, (SELECT count(*) FROM (SELECT 1 FROM thread_tag WHERE thread_tag.tag = wanted.tag LIMIT {FEW} + 1)) AS few
         FROM (SELECT json_tag(key, atom) AS tag FROM json_each(?1) WHERE type NOT IN ('object', 'array')) AS wanted
         ORDER BY few LIMIT 1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([serde_json::to_string(metadata)?])?;
    Ok(rows.next()?.map(|row| Ok::<_, rusqlite::Error>((row.get(0)?, row.get(1)?))).transpose()?)
}

/// Where fewer threads are to be read: among those with the field, or those with the status.
fn fewer(connection: &Connection, tag: i64, query: &ThreadQuery) -> Done<Among> {
    let Some(status) = query.status else { return Ok(Among::Tag(tag)) };
    let mut statement = connection.prepare_cached(
        "SELECT (SELECT count(*) FROM thread WHERE rest_status = ?2) < (SELECT count(*) FROM thread_tag WHERE tag = ?1)",
    )?;
    let status_is_rarer = statement.query_row((tag, status.as_str()), |row| row.get(0))?;
    Ok(if status_is_rarer { Among::All(None) } else { Among::Tag(tag) })
}

fn select(connection: &Connection, among: &Among, query: &ThreadQuery, limit: usize, offset: usize) -> Done<Vec<i64>> {
    let mut sql = page(among, query)?;
    sql.with("LIMIT ?", i64::try_from(limit).unwrap_or(i64::MAX));
    sql.with("OFFSET ?", i64::try_from(offset).unwrap_or(i64::MAX));
    let mut statement = connection.prepare_cached(&sql.text)?;
    let keys = statement.query_map(&*sql.parameters(), |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(keys)
}

/// Reads threads in order until there are enough. `None` when they lie too far behind.
fn read_in_order(connection: &Connection, query: &ThreadQuery, limit: usize, offset: usize) -> Done<Option<Vec<i64>>> {
    let sql = in_order(query)?;
    let mut statement = connection.prepare_cached(&sql.text)?;
    let mut rows = statement.query(&*sql.parameters())?;
    let (mut keys, mut read) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        if read == READ_IN_ORDER {
            return Ok(None);
        }
        read += 1;
        if row.get(1)? {
            keys.push(row.get(0)?);
        }
        if keys.len() == limit.saturating_add(offset) {
            break;
        }
    }
    Ok(Some(keys.split_off(offset.min(keys.len()))))
}

/// The threads that match, in order.
pub(super) fn page(among: &Among, query: &ThreadQuery) -> Done<Sql> {
    let mut sql = Sql::new("SELECT k FROM");
    sql.among(among);
    sql.matching(query)?;
    sql.ordered(query);
    Ok(sql)
}

/// All threads of the status in order, and of each whether it matches.
pub(super) fn in_order(query: &ThreadQuery) -> Done<Sql> {
    let mut sql = Sql::new("SELECT k,");
    sql.with("json_has(metadata, ?)", serde_json::to_string(&query.metadata)?);
    if !query.visible.is_empty() {
        sql.with("AND json_admits(metadata, ?)", serde_json::to_string(&query.visible)?);
    }
    if !query.values.is_empty() {
        sql.with("AND json_has(opened_values(id, state_values), ?)", serde_json::to_string(&query.values)?);
    }
    sql.add("FROM");
    sql.among(&Among::All(None));
    sql.status(query.status);
    sql.ordered(query);
    Ok(sql)
}

impl Sql {
    fn among(&mut self, among: &Among) {
        match among {
            Among::Ids(ids) => self.with("thread WHERE id IN (SELECT unhex(value) FROM json_each(?))", ids.clone()),
            Among::Tag(tag) => self.with("thread_tag CROSS JOIN thread ON k = thread_tag.thread WHERE tag = ?", *tag),
            Among::Open => {
                self.add("thread WHERE k IN (SELECT run.thread FROM run WHERE run.status IN ('pending', 'running'))");
            }
            Among::All(_) => self.add("thread WHERE true"),
        }
    }

    fn matching(&mut self, query: &ThreadQuery) -> Done<()> {
        if !query.metadata.is_empty() {
            self.with("AND json_has(metadata, ?)", serde_json::to_string(&query.metadata)?);
        }
        if !query.visible.is_empty() {
            self.with("AND json_admits(metadata, ?)", serde_json::to_string(&query.visible)?);
        }
        if !query.values.is_empty() {
            self.with("AND json_has(opened_values(id, state_values), ?)", serde_json::to_string(&query.values)?);
        }
        self.status(query.status);
        Ok(())
    }

    fn status(&mut self, status: Option<ThreadStatus>) {
        match status {
            None => {}
            Some(ThreadStatus::Busy) => self.add(&format!("AND {BUSY}")),
            Some(at_rest) => self.with(&format!("AND NOT {BUSY} AND rest_status = ?"), at_rest.as_str()),
        }
    }

    fn ordered(&mut self, query: &ThreadQuery) {
        let column = match query.sort_by {
            ThreadSort::ThreadId => "id",
            ThreadSort::Status => &format!("CASE WHEN {BUSY} THEN 'busy' ELSE rest_status END"),
            ThreadSort::CreatedAt => "created_at",
            ThreadSort::UpdatedAt => "updated_at",
            ThreadSort::StateUpdatedAt => "state_updated_at",
        };
        self.add(&format!("ORDER BY {column} {}, k DESC", direction(query.order)));
    }
}
