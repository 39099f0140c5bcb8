//! Finding the rows whose metadata contain a pattern: the database narrows them down, and what is left is judged here.

use deadpool_postgres::Object;
use threadyard_core::{json::Object as Fields, page::Window};
use tokio_postgres::Row;

use super::{
    failures::Done,
    rows::{all, get, one},
    scans::{contains, scan, understood},
    sql::Sql,
};

/// Adds the condition that a column contains a pattern, as far as the database can tell.
pub(super) fn narrow(sql: &mut Sql, column: &str, pattern: &Fields) {
    if !pattern.is_empty() {
        let condition = format!("AND json_has({column}, ?::text::jsonb) IS NOT FALSE");
        sql.with(&condition, understood(pattern).to_string());
    }
}

/// The rows of a query, which has a column `metadata`, that contain a pattern: those in the window, and the one behind it.
pub(super) async fn find<T>(
    client: &mut Object,
    mut sql: Sql,
    pattern: &Fields,
    window: Window,
    read: impl Fn(&Row) -> Done<T>,
) -> Done<Vec<T>> {
    let wanted = i64::from(window.limit) + 1;
    if pattern.is_empty() {
        sql.with("LIMIT ?", wanted);
        sql.with("OFFSET ?", i64::from(window.offset));
        return all(client, &sql.text, &sql.parameters()).await?.iter().map(read).collect();
    }
    let (mut found, mut passed_over) = (Vec::new(), window.offset);
    scan(client, &sql, |row| {
        if !contains(Some(get::<&str>(row, "metadata")?.as_bytes()), pattern) {
            return Ok(false);
        }
        match passed_over.checked_sub(1) {
            Some(left) => passed_over = left,
            None => found.push(read(row)?),
        }
        Ok(found.len() > window.limit as usize)
    })
    .await?;
    Ok(found)
}

/// How many rows of a query, which has a column `metadata`, contain a pattern.
pub(super) async fn count(client: &mut Object, mut sql: Sql, pattern: &Fields) -> Done<u64> {
    if pattern.is_empty() {
        sql.text = format!("SELECT count(*) FROM ({}) AS found", sql.text);
        let count: i64 = get(&one(client, &sql.text, &sql.parameters()).await?, 0)?;
        return Ok(count.unsigned_abs());
    }
    let mut count = 0;
    scan(client, &sql, |row| {
        count += u64::from(contains(Some(get::<&str>(row, "metadata")?.as_bytes()), pattern));
        Ok(false)
    })
    .await?;
    Ok(count)
}
