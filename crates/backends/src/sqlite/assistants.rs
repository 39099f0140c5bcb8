//! Assistants in SQLite.

use async_trait::async_trait;
use rusqlite::{Row, params, types::ToSql};
use threadyard_core::{
    assistants::{
        Assistant, AssistantPatch, AssistantQuery, AssistantSort, AssistantVersion, Assistants, CreatedAssistant,
    },
    ids::AssistantId,
    json::Object,
    metadata_filter::MetadataFilter,
    page::{Order, Page, Window},
    storage::Result,
    time::Timestamp,
};

use super::{
    Connection, Done, SqliteStorage,
    rows::{all, first, key, object, time, uuid},
};

#[async_trait]
impl Assistants for SqliteStorage {
    async fn register_assistants(&self, assistants: Vec<Assistant>) -> Result<()> {
        self.writer
            .write(move |connection| assistants.iter().try_for_each(|it| insert(connection, it).map(|_| ())))
            .await
    }

    async fn create_assistant(&self, new: Assistant) -> Result<CreatedAssistant> {
        self.writer
            .write(move |connection| {
                if insert(connection, &new)? {
                    return Ok(CreatedAssistant::New(new));
                }
                let existing = find(connection, new.assistant_id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
                Ok(CreatedAssistant::Existing(existing))
            })
            .await
    }

    async fn patch_assistant(
        &self,
        id: AssistantId,
        patch: AssistantPatch,
        now: Timestamp,
    ) -> Result<Option<Assistant>> {
        self.writer
            .write(move |connection| {
                let found = find(connection, id)?.filter(|found| patch.within.admits(&found.metadata));
                let Some(mut assistant) = found else { return Ok(None) };
                assistant.version = newest_version(connection, id)? + 1;
                assistant.graph_id = patch.graph_id.unwrap_or(assistant.graph_id);
                assistant.config = patch.config.unwrap_or(assistant.config);
                assistant.context = patch.context.unwrap_or(assistant.context);
                assistant.metadata.extend(patch.metadata);
                assistant.name = patch.name.unwrap_or(assistant.name);
                assistant.description = patch.description.or(assistant.description);
                assistant.updated_at = now;
                update(connection, &assistant)?;
                insert_version(connection, &assistant, now)?;
                Ok(Some(assistant))
            })
            .await
    }

    async fn assistant_versions(
        &self,
        id: AssistantId,
        metadata: Object,
        window: Window,
    ) -> Result<Option<Vec<AssistantVersion>>> {
        self.readers
            .read(move |connection| {
                if find(connection, id)?.is_none() {
                    return Ok(None);
                }
                let mut query = connection.prepare_cached(
                    "SELECT version.*, assistant.id FROM assistant_version AS version
                     JOIN assistant ON assistant.k = version.assistant
                     WHERE assistant.id = ?1 AND json_has(version.metadata, ?2)
                     ORDER BY version.version DESC LIMIT ?3 OFFSET ?4",
                )?;
                let metadata = serde_json::to_string(&metadata)?;
                all(&mut query, &[&key(id), &metadata, &window.limit, &window.offset], version).map(Some)
            })
            .await
    }

    async fn select_assistant_version(
        &self,
        id: AssistantId,
        within: MetadataFilter,
        number: i64,
        now: Timestamp,
    ) -> Result<Option<Assistant>> {
        self.writer
            .write(move |connection| {
                let found = find(connection, id)?.filter(|found| within.admits(&found.metadata));
                let Some(assistant) = found else { return Ok(None) };
                let mut query = connection.prepare_cached(
                    "SELECT version.*, assistant.id FROM assistant_version AS version
                     JOIN assistant ON assistant.k = version.assistant WHERE assistant.id = ?1 AND version.version = ?2",
                )?;
                let Some(chosen) = first(&mut query, &[&key(id), &number], version)? else { return Ok(None) };
                let assistant = Assistant {
                    version: chosen.version,
                    graph_id: chosen.graph_id,
                    config: chosen.config,
                    context: chosen.context,
                    metadata: chosen.metadata,
                    name: chosen.name,
                    description: chosen.description,
                    updated_at: now,
                    ..assistant
                };
                update(connection, &assistant)?;
                Ok(Some(assistant))
            })
            .await
    }

    async fn delete_assistant(&self, id: AssistantId, within: MetadataFilter) -> Result<bool> {
        self.writer
            .write(move |connection| {
                if find(connection, id)?.is_some_and(|found| !within.admits(&found.metadata)) {
                    return Ok(false);
                }
                connection
                    .prepare_cached(
                        "DELETE FROM assistant_version WHERE assistant = (SELECT k FROM assistant WHERE id = ?1)",
                    )?
                    .execute([key(id)])?;
                connection.prepare_cached("DELETE FROM cron WHERE assistant_id = ?1")?.execute([key(id)])?;
                let deleted = connection.prepare_cached("DELETE FROM assistant WHERE id = ?1")?.execute([key(id)])?;
                Ok(deleted == 1)
            })
            .await
    }

    async fn assistant(&self, id: AssistantId) -> Result<Option<Assistant>> {
        self.readers.look_up(move |connection| find(connection, id)).await
    }

    async fn search_assistants(&self, query: AssistantQuery, window: Window) -> Result<Page<Assistant>> {
        self.readers
            .read(move |connection| {
                let sql = format!(
                    "SELECT * FROM assistant WHERE {MATCHES} ORDER BY {} {}, k LIMIT ?5 OFFSET ?6",
                    column(query.sort_by),
                    direction(query.order)
                );
                let metadata = serde_json::to_string(&query.metadata)?;
                let limit = i64::from(window.limit) + 1;
                let visible = serde_json::to_string(&query.visible)?;
                let parameters: [&dyn ToSql; 6] =
                    [&metadata, &query.graph_id, &query.name, &visible, &limit, &window.offset];
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
                let count: i64 = connection.prepare_cached(&sql)?.query_row(
                    params![metadata, query.graph_id, query.name, serde_json::to_string(&query.visible)?],
                    |row| row.get(0),
                )?;
                Ok(count.unsigned_abs())
            })
            .await
    }
}

const MATCHES: &str = "json_has(metadata, ?1) AND (?2 IS NULL OR graph_id = ?2)
    AND (?3 IS NULL OR instr(lower(name), lower(?3)) > 0) AND json_admits(metadata, ?4)";

fn find(connection: &Connection, id: AssistantId) -> Done<Option<Assistant>> {
    let mut query = connection.prepare_cached("SELECT * FROM assistant WHERE id = ?1")?;
    first(&mut query, &[&key(id)], assistant)
}

/// Makes an assistant with its first version, unless its id is taken. Says whether it did.
fn insert(connection: &Connection, it: &Assistant) -> Done<bool> {
    let made = connection
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
    if made == 1 {
        insert_version(connection, it, it.created_at)?;
    }
    Ok(made == 1)
}

fn update(connection: &Connection, it: &Assistant) -> Done<()> {
    connection
        .prepare_cached(
            "UPDATE assistant SET graph_id = ?2, name = ?3, description = ?4, config = ?5, context = ?6, metadata = ?7,
                 version = ?8, updated_at = ?9
             WHERE id = ?1",
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
            it.updated_at.0,
        ])?;
    Ok(())
}

fn insert_version(connection: &Connection, it: &Assistant, now: Timestamp) -> Done<()> {
    connection
        .prepare_cached(
            "INSERT INTO assistant_version
             SELECT k, version, graph_id, name, description, config, context, metadata, ?2 FROM assistant WHERE id = ?1",
        )?
        .execute(params![key(it.assistant_id), now.0])?;
    Ok(())
}

fn newest_version(connection: &Connection, id: AssistantId) -> Done<i64> {
    let mut query = connection.prepare_cached(
        "SELECT max(version) FROM assistant_version WHERE assistant = (SELECT k FROM assistant WHERE id = ?1)",
    )?;
    Ok(query.query_row([key(id)], |row| row.get(0))?)
}

fn version(row: &Row<'_>) -> Done<AssistantVersion> {
    Ok(AssistantVersion {
        assistant_id: AssistantId(uuid(row, "id")?),
        version: row.get("version")?,
        graph_id: row.get("graph_id")?,
        config: object("assistant_version", row, "config")?,
        context: object("assistant_version", row, "context")?,
        metadata: object("assistant_version", row, "metadata")?,
        created_at: time(row, "created_at")?,
        name: row.get("name")?,
        description: row.get("description")?,
    })
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
