//! Assistants in SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params, types::ToSql};
use threadyard_core::{
    assistants::{Assistant, AssistantQuery, AssistantSort, Assistants},
    ids::AssistantId,
    page::{Order, Page, Window},
    storage::Result,
};

use super::{
    Done, SqliteStorage,
    rows::{all, first, key, object, time, uuid},
};

#[async_trait]
impl Assistants for SqliteStorage {
    async fn register_assistants(&self, assistants: Vec<Assistant>) -> Result<()> {
        self.writer.write(move |connection| assistants.iter().try_for_each(|it| register(connection, it))).await
    }

    async fn assistant(&self, id: AssistantId) -> Result<Option<Assistant>> {
        self.readers
            .read(move |connection| {
                let mut query = connection.prepare_cached("SELECT * FROM assistant WHERE id = ?1")?;
                first(&mut query, &[&key(id)], assistant)
            })
            .await
    }

    async fn search_assistants(&self, query: AssistantQuery, window: Window) -> Result<Page<Assistant>> {
        self.readers
            .read(move |connection| {
                let sql = format!(
                    "SELECT * FROM assistant WHERE {MATCHES} ORDER BY {} {}, k LIMIT ?4 OFFSET ?5",
                    column(query.sort_by),
                    direction(query.order)
                );
                let metadata = serde_json::to_string(&query.metadata)?;
                let limit = i64::from(window.limit) + 1;
                let parameters: [&dyn ToSql; 5] = [&metadata, &query.graph_id, &query.name, &limit, &window.offset];
                let rows = all(&mut connection.prepare_cached(&sql)?, &parameters, assistant)?;
                Ok(Page::from_probe(rows, window))
            })
            .await
    }

    async fn count_assistants(&self, query: AssistantQuery) -> Result<u64> {
        self.readers
            .read(move |connection| {
                let sql = format!("SELECT count(*) FROM assistant WHERE {MATCHES}");
                let metadata = serde_json::to_string(&query.metadata)?;
                let count: i64 = connection
                    .prepare_cached(&sql)?
                    .query_row(params![metadata, query.graph_id, query.name], |row| row.get(0))?;
                Ok(count.unsigned_abs())
            })
            .await
    }
}

const MATCHES: &str = "json_has(metadata, ?1) AND (?2 IS NULL OR graph_id = ?2)
    AND (?3 IS NULL OR instr(lower(name), lower(?3)) > 0)";

fn register(connection: &Connection, it: &Assistant) -> Done<()> {
    connection
        .prepare_cached(
            "INSERT INTO assistant
                 (id, graph_id, name, description, config, context, metadata, version, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            key(it.assistant_id),
            it.graph_id,
            it.name,
            it.description,
            serde_json::to_string(&it.config)?,
            serde_json::to_string(&it.context)?,
            serde_json::to_string(&it.metadata)?,
            it.version,
            it.created_at.0,
            it.updated_at.0,
        ])?;
    Ok(())
}

fn assistant(row: &Row<'_>) -> Done<Assistant> {
    Ok(Assistant {
        assistant_id: AssistantId(uuid(row, "id")?),
        graph_id: row.get("graph_id")?,
        config: object("assistant", row, "config")?,
        context: object("assistant", row, "context")?,
        metadata: object("assistant", row, "metadata")?,
        name: row.get("name")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        version: row.get("version")?,
        description: row.get("description")?,
    })
}

fn column(sort: AssistantSort) -> &'static str {
    match sort {
        AssistantSort::AssistantId => "id",
        AssistantSort::CreatedAt => "created_at",
        AssistantSort::UpdatedAt => "updated_at",
        AssistantSort::Name => "name",
        AssistantSort::GraphId => "graph_id",
    }
}

pub(super) fn direction(order: Order) -> &'static str {
    match order {
        Order::Ascending => "ASC",
        Order::Descending => "DESC",
    }
}
