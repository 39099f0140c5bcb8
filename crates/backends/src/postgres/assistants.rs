//! Assistants in PostgreSQL.

use async_trait::async_trait;
use threadyard_core::{
    assistants::{
        Assistant, AssistantPatch, AssistantQuery, AssistantSort, AssistantVersion, Assistants, CreatedAssistant,
    },
    ids::AssistantId,
    json::Object,
    metadata_filter::MetadataFilter,
    page::{Order, Page, Window},
    storage::{Result, StorageError},
    time::Timestamp,
};
use tokio_postgres::Row;

use super::{
    Client, PostgresStorage,
    failures::Done,
    metadata::{self, Wanted},
    rows::{Parameter, Text, both, escaped, execute, first, get, object, one, optional_string, string, time, uuid},
    sql::Sql,
};

#[async_trait]
impl Assistants for PostgresStorage {
    async fn register_assistants(&self, mut assistants: Vec<Assistant>) -> Result<()> {
        // Servers that start at the same time wait for each other in the same order.
        assistants.sort_by_key(|it| it.assistant_id.0);
        self.transact(assistants, |client, assistants| {
            Box::pin(async move {
                for it in assistants {
                    insert(client, it).await?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn create_assistant(&self, new: Assistant) -> Result<CreatedAssistant> {
        self.transact(new, |client, new| {
            Box::pin(async move {
                if insert(client, new).await? {
                    return Ok(CreatedAssistant::New(new.clone()));
                }
                let existing = find(client, new.assistant_id).await?;
                Ok(CreatedAssistant::Existing(existing.ok_or(gone(new.assistant_id))?))
            })
        })
        .await
    }

    async fn patch_assistant(
        &self,
        id: AssistantId,
        patch: AssistantPatch,
        now: Timestamp,
    ) -> Result<Option<Assistant>> {
        self.transact((id, patch, now), |client, (id, patch, now)| Box::pin(patched(client, *id, patch.clone(), *now)))
            .await
    }

    async fn assistant_versions(
        &self,
        id: AssistantId,
        pattern: Object,
        window: Window,
    ) -> Result<Option<Vec<AssistantVersion>>> {
        let mut client = self.client().await?;
        if find(&client, id).await?.is_none() {
            return Ok(None);
        }
        let mut sql = Sql::new(
            "SELECT version.*, assistant.id FROM assistant_version AS version
             JOIN assistant ON assistant.k = version.assistant",
        );
        sql.with("WHERE assistant.id = ?", id.0);
        let wanted = Wanted { pattern: &pattern, visible: &MetadataFilter::default() };
        metadata::narrow(&mut sql, "version.metadata", wanted);
        sql.add("ORDER BY version.version DESC");
        let mut found = metadata::find(&mut client, sql, wanted, window, version).await?;
        found.truncate(window.limit as usize);
        Ok(Some(found))
    }

    async fn select_assistant_version(
        &self,
        id: AssistantId,
        within: MetadataFilter,
        number: i64,
        now: Timestamp,
    ) -> Result<Option<Assistant>> {
        self.transact((id, within, number, now), |client, (id, within, number, now)| {
            Box::pin(select_version(client, *id, within, *number, *now))
        })
        .await
    }

    async fn delete_assistant(&self, id: AssistantId, within: MetadataFilter) -> Result<bool> {
        self.transact((id, within), |client, (id, within)| Box::pin(delete(client, *id, within))).await
    }

    async fn assistant(&self, id: AssistantId) -> Result<Option<Assistant>> {
        Ok(find(&self.client().await?, id).await?)
    }

    async fn search_assistants(&self, query: AssistantQuery, window: Window) -> Result<Page<Assistant>> {
        let mut sql = matching("*", &query);
        sql.add(&format!("ORDER BY {} {}, k", column(query.sort_by), direction(query.order)));
        let found = metadata::find(&mut self.client().await?, sql, wanted(&query), window, assistant).await?;
        Ok(Page::from_probe(found, window))
    }

    async fn count_assistants(&self, query: AssistantQuery) -> Result<u64> {
        let sql = matching("metadata", &query);
        Ok(metadata::count(&mut self.client().await?, sql, wanted(&query)).await?)
    }
}

/// What of the assistants that match, as far as the database can tell.
fn matching(what: &str, query: &AssistantQuery) -> Sql {
    let mut sql = Sql::new(&format!("SELECT {what} FROM assistant WHERE true"));
    if let Some(graph) = &query.graph_id {
        sql.with("AND graph_id = ?", escaped(graph).into_owned());
    }
    if let Some(name) = &query.name {
        sql.with("AND strpos(lower(name), lower(?::text COLLATE \"C\")) > 0", escaped(name).into_owned());
    }
    metadata::narrow(&mut sql, "metadata", wanted(query));
    sql
}

fn wanted(query: &AssistantQuery) -> Wanted<'_> {
    Wanted { pattern: &query.metadata, visible: &query.visible }
}

async fn find(client: &Client, id: AssistantId) -> Done<Option<Assistant>> {
    let found = first(client, "SELECT * FROM assistant WHERE id = $1", &[&id.0]).await?;
    found.as_ref().map(assistant).transpose()
}

fn gone(id: AssistantId) -> StorageError {
    StorageError::Unavailable(format!("assistant {id} was deleted at the same time"))
}

/// Makes an assistant with its first version, unless its id is taken. Says whether it did.
async fn insert(client: &Client, it: &Assistant) -> Done<bool> {
    let made = execute(
        client,
        "WITH made AS (
             INSERT INTO assistant
                 (id, graph_id, name, description, config, context, metadata, version, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING RETURNING *)
         INSERT INTO assistant_version
         SELECT k, version, graph_id, name, description, config, context, metadata, created_at FROM made",
        &[
            &it.assistant_id.0,
            &Text(&it.graph_id),
            &Text(&it.name),
            &it.description.as_deref().map(Text),
            &serde_json::to_string(&it.config)?,
            &serde_json::to_string(&it.context)?,
            &serde_json::to_string(&it.metadata)?,
            &it.version,
            &it.created_at.0,
            &it.updated_at.0,
        ],
    )
    .await?;
    Ok(made == 1)
}

async fn patched(client: &Client, id: AssistantId, patch: AssistantPatch, now: Timestamp) -> Done<Option<Assistant>> {
    let newest = "SELECT max(version) FROM assistant_version WHERE assistant = (SELECT k FROM assistant WHERE id = $1)";
    // Who is locked out reads the versions afterwards, and so counts on from the last.
    let (found, newest) = both(client, (LOCK, &[&id.0]), (newest, &[&id.0])).await?;
    let (Some(found), Some(newest)) = (found.first(), newest.first()) else { return Ok(None) };
    let mut assistant = assistant(found)?;
    if !patch.within.admits(&assistant.metadata) {
        return Ok(None);
    }
    assistant.version = get::<Option<i64>>(newest, 0)?.unwrap_or_default() + 1;
    assistant.graph_id = patch.graph_id.unwrap_or(assistant.graph_id);
    assistant.config = patch.config.unwrap_or(assistant.config);
    assistant.context = patch.context.unwrap_or(assistant.context);
    assistant.metadata.extend(patch.metadata);
    assistant.name = patch.name.unwrap_or(assistant.name);
    assistant.description = patch.description.or(assistant.description);
    assistant.updated_at = now;
    let sql = format!(
        "WITH changed AS ({UPDATE} RETURNING *)
         INSERT INTO assistant_version
         SELECT k, version, graph_id, name, description, config, context, metadata, updated_at FROM changed"
    );
    update(client, &sql, &assistant).await?;
    Ok(Some(assistant))
}

const LOCK: &str = "SELECT * FROM assistant WHERE id = $1 FOR UPDATE";

async fn select_version(
    client: &Client,
    id: AssistantId,
    within: &MetadataFilter,
    number: i64,
    now: Timestamp,
) -> Done<Option<Assistant>> {
    let wanted = "SELECT version.*, assistant.id FROM assistant_version AS version
         JOIN assistant ON assistant.k = version.assistant WHERE assistant.id = $1 AND version.version = $2";
    let (found, chosen) = both(client, (LOCK, &[&id.0]), (wanted, &[&id.0, &number])).await?;
    let (Some(found), Some(chosen)) = (found.first(), chosen.first()) else { return Ok(None) };
    let (assistant, chosen) = (assistant(found)?, version(chosen)?);
    if !within.admits(&assistant.metadata) {
        return Ok(None);
    }
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
    update(client, UPDATE, &assistant).await?;
    Ok(Some(assistant))
}

const UPDATE: &str = "UPDATE assistant SET graph_id = $2, name = $3, description = $4, config = $5, context = $6,
        metadata = $7, version = $8, updated_at = $9
    WHERE id = $1";

async fn update(client: &Client, sql: &str, it: &Assistant) -> Done<()> {
    let parameters: [Parameter<'_>; 9] = [
        &it.assistant_id.0,
        &Text(&it.graph_id),
        &Text(&it.name),
        &it.description.as_deref().map(Text),
        &serde_json::to_string(&it.config)?,
        &serde_json::to_string(&it.context)?,
        &serde_json::to_string(&it.metadata)?,
        &it.version,
        &it.updated_at.0,
    ];
    execute(client, sql, &parameters).await.map(drop)
}

async fn delete(client: &Client, id: AssistantId, within: &MetadataFilter) -> Done<bool> {
    let sql = "WITH gone AS (DELETE FROM assistant WHERE id = $1 RETURNING k),
             versions AS (DELETE FROM assistant_version WHERE assistant IN (SELECT k FROM gone)),
             crons AS (DELETE FROM cron WHERE assistant_id = $1)
         SELECT count(*) FROM gone";
    // Whoever is changing it is waited for, so that its newest version goes as well.
    let found = first(client, LOCK, &[&id.0]).await?.as_ref().map(assistant).transpose()?;
    if found.is_some_and(|found| !within.admits(&found.metadata)) {
        return Ok(false);
    }
    Ok(get::<i64>(&one(client, sql, &[&id.0]).await?, 0)? == 1)
}

fn version(row: &Row) -> Done<AssistantVersion> {
    Ok(AssistantVersion {
        assistant_id: AssistantId(uuid(row, "id")?),
        version: get(row, "version")?,
        graph_id: string(row, "graph_id")?,
        config: object("assistant_version", row, "config")?,
        context: object("assistant_version", row, "context")?,
        metadata: object("assistant_version", row, "metadata")?,
        created_at: time(row, "created_at")?,
        name: string(row, "name")?,
        description: optional_string(row, "description")?,
    })
}

fn assistant(row: &Row) -> Done<Assistant> {
    Ok(Assistant {
        assistant_id: AssistantId(uuid(row, "id")?),
        graph_id: string(row, "graph_id")?,
        config: object("assistant", row, "config")?,
        context: object("assistant", row, "context")?,
        metadata: object("assistant", row, "metadata")?,
        name: string(row, "name")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        version: get(row, "version")?,
        description: optional_string(row, "description")?,
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

/// What is missing counts as the smallest.
pub(super) fn direction(order: Order) -> &'static str {
    match order {
        Order::Ascending => "ASC NULLS FIRST",
        Order::Descending => "DESC NULLS LAST",
    }
}
