//! `/assistants`.

use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::Value;
use threadyard_core::{
    assistants::{AssistantQuery, AssistantSort},
    ids::AssistantId,
    json::{Object, RawJson},
};
use threadyard_engine::Engine;

use super::{
    error::Answer,
    extract::{Body, Ids, Query, flag, id, invalid},
    page::{SortOrder, columns, paged, window},
};

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

pub(super) async fn search(State(engine): State<Engine>, Body(search): Body<Search>) -> Answer {
    let window = window(search.limit, search.offset)?;
    let select = columns(search.select.as_deref(), COLUMNS)?;
    let page = engine.search_assistants(search.query(), window).await?;
    Ok(paged(page, window, select))
}

pub(super) async fn count(State(engine): State<Engine>, Body(search): Body<Search>) -> Answer<Json<u64>> {
    Ok(Json(engine.count_assistants(search.query()).await?))
}

pub(super) async fn get(State(engine): State<Engine>, Ids((id,)): Ids<(AssistantId,)>) -> Answer {
    Ok(Json(engine.assistant(id).await?).into_response())
}

pub(super) async fn schemas(State(engine): State<Engine>, Ids((id,)): Ids<(AssistantId,)>) -> Answer<Json<RawJson>> {
    Ok(Json(engine.assistant_schemas(id).await?))
}

#[derive(Deserialize)]
pub(super) struct Drawing {
    xray: Option<String>,
}

pub(super) async fn graph(
    State(engine): State<Engine>,
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
    State(engine): State<Engine>,
    Ids((id,)): Ids<(AssistantId,)>,
    Query(subgraphs): Query<Subgraphs>,
) -> Answer<Json<RawJson>> {
    Ok(Json(engine.assistant_subgraphs(id, None, subgraphs.recurse).await?))
}

pub(super) async fn subgraphs_of(
    State(engine): State<Engine>,
    Path((assistant, namespace)): Path<(String, String)>,
    Query(subgraphs): Query<Subgraphs>,
) -> Answer<Json<RawJson>> {
    Ok(Json(engine.assistant_subgraphs(id(&assistant)?, Some(namespace), subgraphs.recurse).await?))
}
