//! `/threads`.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::Value;
use threadyard_core::{
    ids::ThreadId,
    json::Object,
    threads::{Thread, ThreadQuery, ThreadSort, ThreadStatus},
};
use threadyard_engine::{Engine, Error};

use super::{
    error::{Answer, ApiError},
    extract::{Body, Ids, id, invalid, unsupported},
    page::{IfExists, SortOrder, columns, paged, window},
};

#[derive(Deserialize)]
pub(super) struct Create {
    thread_id: Option<String>,
    #[serde(default)]
    metadata: Option<Object>,
    if_exists: Option<IfExists>,
    ttl: Option<Object>,
    supersteps: Option<Vec<Value>>,
}

pub(super) async fn create(State(engine): State<Engine>, Body(create): Body<Create>) -> Answer<Json<Thread>> {
    refuse_ttl(create.ttl.as_ref())?;
    if create.supersteps.is_some_and(|supersteps| !supersteps.is_empty()) {
        return unsupported("`supersteps`");
    }
    let thread_id = create.thread_id.as_deref().map(id).transpose()?;
    let keep = create.if_exists == Some(IfExists::DoNothing);
    Ok(Json(engine.create_thread(thread_id, create.metadata.unwrap_or_default(), keep).await?))
}

pub(super) async fn get(State(engine): State<Engine>, Ids((id,)): Ids<(ThreadId,)>) -> Answer<Json<Thread>> {
    Ok(Json(engine.thread(id).await?))
}

#[derive(Deserialize)]
pub(super) struct Patch {
    #[serde(default)]
    metadata: Option<Object>,
    ttl: Option<Object>,
}

pub(super) async fn patch(
    State(engine): State<Engine>,
    Ids((id,)): Ids<(ThreadId,)>,
    headers: HeaderMap,
    Body(patch): Body<Patch>,
) -> Answer {
    refuse_ttl(patch.ttl.as_ref())?;
    let thread = engine.patch_thread(id, patch.metadata.unwrap_or_default()).await?;
    let minimal = headers.get("prefer").is_some_and(|prefer| prefer == "return=minimal");
    Ok(if minimal { StatusCode::NO_CONTENT.into_response() } else { Json(thread).into_response() })
}

pub(super) async fn delete(State(engine): State<Engine>, Ids((id,)): Ids<(ThreadId,)>) -> Answer<StatusCode> {
    engine.delete_thread(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(super) struct Search {
    ids: Option<Vec<String>>,
    #[serde(default)]
    metadata: Option<Object>,
    #[serde(default)]
    values: Option<Object>,
    status: Option<ThreadStatus>,
    limit: Option<u32>,
    offset: Option<u32>,
    sort_by: Option<Sort>,
    sort_order: Option<SortOrder>,
    select: Option<Vec<String>>,
    extract: Option<Object>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sort {
    ThreadId,
    Status,
    CreatedAt,
    UpdatedAt,
    StateUpdatedAt,
}

/// What `select` may name.
const COLUMNS: &[&str] = &[
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "config",
    "status",
    "values",
    "interrupts",
];

impl Search {
    fn query(&self) -> Result<ThreadQuery, ApiError> {
        let sort_by = match self.sort_by {
            Some(Sort::ThreadId) => ThreadSort::ThreadId,
            Some(Sort::Status) => ThreadSort::Status,
            Some(Sort::CreatedAt) => ThreadSort::CreatedAt,
            Some(Sort::StateUpdatedAt) => ThreadSort::StateUpdatedAt,
            Some(Sort::UpdatedAt) | None => ThreadSort::UpdatedAt,
        };
        // Upstream: 400 here, though a bad id in a path is 422.
        let parsed =
            |text: &String| text.parse().map_err(|_| ApiError(Error::Refused(format!("ids: `{text}` is not a UUID"))));
        Ok(ThreadQuery {
            ids: self.ids.iter().flatten().map(parsed).collect::<Result<_, _>>()?,
            metadata: self.metadata.clone().unwrap_or_default(),
            values: self.values.clone().unwrap_or_default(),
            status: self.status,
            sort_by,
            order: SortOrder::or_newest(self.sort_order),
        })
    }
}

pub(super) async fn search(State(engine): State<Engine>, Body(search): Body<Search>) -> Answer {
    if search.extract.as_ref().is_some_and(|extract| !extract.is_empty()) {
        return unsupported("`extract`");
    }
    let window = window(search.limit, search.offset)?;
    let select = columns(search.select.as_deref(), COLUMNS)?;
    let page = engine.search_threads(search.query()?, window).await?;
    Ok(paged(page, window, select))
}

pub(super) async fn count(State(engine): State<Engine>, Body(search): Body<Search>) -> Answer<Json<u64>> {
    Ok(Json(engine.count_threads(search.query()?).await?))
}

fn refuse_ttl(ttl: Option<&Object>) -> Result<(), ApiError> {
    match ttl {
        None => Ok(()),
        Some(ttl) if ttl.is_empty() => Err(invalid("ttl: must name a strategy and a time")),
        Some(_) => unsupported("`ttl` of threads"),
    }
}
