//! `/assistants`.

use axum::{Json, extract::Path, http::StatusCode, response::IntoResponse};
use serde::Deserialize;
use serde_json::Value;
use threadyard_core::metadata_filter::MetadataFilter;
use threadyard_core::{
    assistants::{Assistant, AssistantQuery, AssistantSort, AssistantVersion},
    ids::AssistantId,
    json::{Object, RawJson},
};
use threadyard_engine::AssistantRequest;

use super::{
    caller::Caller,
    error::Answer,
    extract::{Body, Ids, Query, flag, id, invalid},
    page::{IfExists, SortOrder, columns, paged, window},
};

/// What an assistant is made of.
#[derive(Deserialize)]
pub(super) struct Fields {
    graph_id: Option<String>,
    config: Option<Object>,
    context: Option<Object>,
    metadata: Option<Object>,
    name: Option<String>,
    description: Option<String>,
}

impl From<Fields> for AssistantRequest {
    fn from(fields: Fields) -> Self {
        Self {
            graph_id: fields.graph_id,
            config: fields.config.unwrap_or_default(),
            context: fields.context,
            metadata: fields.metadata.unwrap_or_default(),
            name: fields.name,
            description: fields.description,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Create {
    assistant_id: Option<String>,
    if_exists: Option<IfExists>,
    #[serde(flatten)]
    fields: Fields,
}

pub(super) async fn create(Caller(engine): Caller, Body(create): Body<Create>) -> Answer<Json<Assistant>> {
    if create.fields.graph_id.is_none() {
        return Err(invalid("graph_id: is required"));
    }
    let assistant_id = create.assistant_id.as_deref().map(id).transpose()?;
    let keep = create.if_exists == Some(IfExists::DoNothing);
    Ok(Json(engine.create_assistant(assistant_id, create.fields.into(), keep).await?))
}

pub(super) async fn patch(
    Caller(engine): Caller,
    Ids((id,)): Ids<(AssistantId,)>,
    Body(fields): Body<Fields>,
) -> Answer<Json<Assistant>> {
    Ok(Json(engine.patch_assistant(id, fields.into()).await?))
}

#[derive(Deserialize)]
pub(super) struct Delete {
    #[serde(default, deserialize_with = "flag")]
    delete_threads: bool,
}

pub(super) async fn delete(
    Caller(engine): Caller,
    Ids((id,)): Ids<(AssistantId,)>,
    Query(delete): Query<Delete>,
) -> Answer<StatusCode> {
    engine.delete_assistant(id, delete.delete_threads).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(super) struct Versions {
    metadata: Option<Object>,
    limit: Option<u32>,
    offset: Option<u32>,
}

pub(super) async fn versions(
    Caller(engine): Caller,
    Ids((id,)): Ids<(AssistantId,)>,
    Body(versions): Body<Versions>,
) -> Answer<Json<Vec<AssistantVersion>>> {
    let window = window(versions.limit, versions.offset)?;
    Ok(Json(engine.assistant_versions(id, versions.metadata.unwrap_or_default(), window).await?))
}

#[derive(Deserialize)]
pub(super) struct Latest {
    version: Option<i64>,
}

pub(super) async fn latest(
    Caller(engine): Caller,
    Ids((id,)): Ids<(AssistantId,)>,
    Body(latest): Body<Latest>,
) -> Answer<Json<Assistant>> {
    // Upstream: a missing version is one that does not exist.
    Ok(Json(engine.select_assistant_version(id, latest.version.unwrap_or_default()).await?))
}

#[derive(Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    metadata: Option<Object>,
    graph_id: Option<String>,
    name: Option<String>,
    limit: Option<u32>,
    offset: Option<u32>,
    sort_by: Option<Sort>,
    sort_order: Option<SortOrder>,
    select: Option<Vec<String>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sort {
    AssistantId,
    CreatedAt,
    UpdatedAt,
    Name,
    GraphId,
}

impl Search {
    fn query(&self) -> AssistantQuery {
        let sort_by = match self.sort_by {
            Some(Sort::AssistantId) => AssistantSort::AssistantId,
            Some(Sort::UpdatedAt) => AssistantSort::UpdatedAt,
            Some(Sort::Name) => AssistantSort::Name,
            Some(Sort::GraphId) => AssistantSort::GraphId,
            Some(Sort::CreatedAt) | None => AssistantSort::CreatedAt,
        };
        AssistantQuery {
            visible: MetadataFilter::default(),
            metadata: self.metadata.clone().unwrap_or_default(),
            graph_id: self.graph_id.clone(),
            name: self.name.clone(),
            sort_by,
            order: SortOrder::or_newest(self.sort_order),
        }
    }
}

/// What `select` may name.
const COLUMNS: &[&str] = &[
    "assistant_id",
    "graph_id",
    "name",
    "description",
    "config",
    "context",
    "metadata",
    "version",
    "created_at",
    "updated_at",
];

pub(super) async fn search(Caller(engine): Caller, Body(search): Body<Search>) -> Answer {
    let window = window(search.limit, search.offset)?;
    let select = columns(search.select.as_deref(), COLUMNS)?;
    let page = engine.search_assistants(search.query(), window).await?;
    Ok(paged(page, window, select))
}

pub(super) async fn count(Caller(engine): Caller, Body(search): Body<Search>) -> Answer<Json<u64>> {
    Ok(Json(engine.count_assistants(search.query()).await?))
}

pub(super) async fn get(Caller(engine): Caller, Ids((id,)): Ids<(AssistantId,)>) -> Answer {
    Ok(Json(engine.assistant(id).await?).into_response())
}

pub(super) async fn schemas(Caller(engine): Caller, Ids((id,)): Ids<(AssistantId,)>) -> Answer<Json<RawJson>> {
    Ok(Json(engine.assistant_schemas(id).await?))
}

#[derive(Deserialize)]
pub(super) struct Drawing {
    xray: Option<String>,
}

pub(super) async fn graph(
    Caller(engine): Caller,
    Path(name): Path<String>,
    Query(drawing): Query<Drawing>,
) -> Answer<Json<RawJson>> {
    let xray = match drawing.xray.as_deref() {
        None | Some("false" | "False") => Value::from(false),
        Some("true" | "True") => Value::from(true),
        Some(depth) => match depth.parse::<u32>() {
            Ok(depth @ 1..) => Value::from(depth),
            _ => return Err(invalid(format!("xray: `{depth}` must be true, false or a positive integer"))),
        },
    };
    Ok(Json(engine.assistant_graph(&name, xray).await?))
}

#[derive(Deserialize)]
pub(super) struct Subgraphs {
    #[serde(default, deserialize_with = "flag")]
    recurse: bool,
}

pub(super) async fn subgraphs(
    Caller(engine): Caller,
    Ids((id,)): Ids<(AssistantId,)>,
    Query(subgraphs): Query<Subgraphs>,
) -> Answer<Json<RawJson>> {
    Ok(Json(engine.assistant_subgraphs(id, None, subgraphs.recurse).await?))
}

pub(super) async fn subgraphs_of(
    Caller(engine): Caller,
    Path((assistant, namespace)): Path<(String, String)>,
    Query(subgraphs): Query<Subgraphs>,
) -> Answer<Json<RawJson>> {
    Ok(Json(engine.assistant_subgraphs(id(&assistant)?, Some(namespace), subgraphs.recurse).await?))
}
