//! Finding the rows whose metadata are as wanted: the database narrows them down, and what is left is judged here.

use threadyard_core::{json::Object as Fields, metadata_filter::MetadataFilter, page::Window};
use tokio_postgres::Row;

use super::{
    Client,
    failures::Done,
    rows::{all, get, one},
    scans::{contains, scan, understood},
    sql::Sql,
};

/// What the metadata of wanted rows are like.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// They contain this.
    pub(super) pattern: &'a Fields,
    /// They are admitted by this.
    pub(super) visible: &'a MetadataFilter,
}

impl Wanted<'_> {
    fn is_everything(self) -> bool {
        self.pattern.is_empty() && self.visible.is_empty()
    }

    fn are(self, metadata: &str) -> bool {
        contains(Some(metadata.as_bytes()), self.pattern) && admits(self.visible, metadata)
    }
}

/// Whether a filter admits metadata as a column holds them.
pub(super) fn admits(filter: &MetadataFilter, metadata: &str) -> bool {
    filter.is_empty() || serde_json::from_str(metadata).is_ok_and(|metadata| filter.admits(&metadata))
}

/// Adds the condition that a column is as wanted, as far as the database can tell.
pub(super) fn narrow(sql: &mut Sql, column: &str, Wanted { pattern, visible }: Wanted<'_>) {
    if let Some(patterns) = visible.patterns() {
        sql.add("AND (false");
        for pattern in patterns {
            let condition = format!("OR json_has({column}, ?::text::jsonb) IS NOT FALSE");
            sql.with(&condition, understood(&pattern).to_string());
        }
        sql.add(")");
    }
    if !pattern.is_empty() {
        let condition = format!("AND json_has({column}, ?::text::jsonb) IS NOT FALSE");
        sql.with(&condition, understood(pattern).to_string());
    }
}

/// The rows of a query, which has a column `metadata`, that are wanted: those in the window, and the one behind it.
pub(super) async fn find<T>(
    client: &mut Client,
    mut sql: Sql,
    wanted: Wanted<'_>,
    window: Window,
    read: impl Fn(&Row) -> Done<T>,
) -> Done<Vec<T>> {
    if wanted.is_everything() {
        sql.with("LIMIT ?", i64::from(window.limit) + 1);
        sql.with("OFFSET ?", i64::from(window.offset));
        return all(client, &sql.text, &sql.parameters()).await?.iter().map(read).collect();
    }
    let (mut found, mut passed_over) = (Vec::new(), window.offset);
    scan(client, &sql, |row| {
        if !wanted.are(get(row, "metadata")?) {
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

/// How many rows of a query, which has a column `metadata`, are wanted.
pub(super) async fn count(client: &mut Client, mut sql: Sql, wanted: Wanted<'_>) -> Done<u64> {
    if wanted.is_everything() {
        sql.text = format!("SELECT count(*) FROM ({}) AS found", sql.text);
        let count: i64 = get(&one(client, &sql.text, &sql.parameters()).await?, 0)?;
        return Ok(count.unsigned_abs());
    }
    let mut count = 0;
    scan(client, &sql, |row| {
        count += u64::from(wanted.are(get(row, "metadata")?));
        Ok(false)
    })
    .await?;
    Ok(count)
}
