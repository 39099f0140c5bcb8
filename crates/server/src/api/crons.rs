//! `/runs/crons` and `/threads/{id}/runs/crons`.

use axum::{Json, http::StatusCode};
use serde::Deserialize;
use threadyard_core::metadata_filter::MetadataFilter;
use threadyard_core::{
    crons::{Cron, CronQuery, CronSort},
    ids::{CronId, ThreadId},
    json::{Object, RawObject},
};

use super::{
    caller::Caller,
    error::{Answer, ApiError},
    extract::{Body, Ids, id},
    page::{SortOrder, columns, paged, window},
};

pub(super) async fn create(Caller(engine): Caller, Body(payload): Body<RawObject>) -> Answer<Json<Cron>> {
    Ok(Json(engine.create_cron(None, payload).await?))
}

pub(super) async fn create_on_thread(
    Caller(engine): Caller,
    Ids((thread,)): Ids<(ThreadId,)>,
    Body(payload): Body<RawObject>,
) -> Answer<Json<Cron>> {
    Ok(Json(engine.create_cron(Some(thread), payload).await?))
}

pub(super) async fn get(Caller(engine): Caller, Ids((id,)): Ids<(CronId,)>) -> Answer<Json<Cron>> {
    Ok(Json(engine.cron(id).await?))
}

pub(super) async fn patch(
    Caller(engine): Caller,
    Ids((id,)): Ids<(CronId,)>,
    Body(patch): Body<RawObject>,
) -> Answer<Json<Cron>> {
    Ok(Json(engine.patch_cron(id, patch).await?))
}

pub(super) async fn delete(Caller(engine): Caller, Ids((id,)): Ids<(CronId,)>) -> Answer<StatusCode> {
    engine.delete_cron(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(super) struct Search {
    assistant_id: Option<String>,
    thread_id: Option<String>,
    enabled: Option<bool>,
    metadata: Option<Object>,
    limit: Option<u32>,
    offset: Option<u32>,
    sort_by: Option<CronSort>,
    sort_order: Option<SortOrder>,
    select: Option<Vec<String>>,
}

/// What `select` may name.
const COLUMNS: &[&str] = &[
    "cron_id",
    "assistant_id",
    "thread_id",
    "on_run_completed",
    "end_time",
    "schedule",
    "timezone",
    "created_at",
    "updated_at",
    "user_id",
    "payload",
    "next_run_date",
    "metadata",
    "enabled",
];

impl Search {
    fn query(&self) -> Result<CronQuery, ApiError> {
        Ok(CronQuery {
            visible: MetadataFilter::default(),
            assistant_id: self.assistant_id.as_deref().map(id).transpose()?,
            thread_id: self.thread_id.as_deref().map(id).transpose()?,
            enabled: self.enabled,
            metadata: self.metadata.clone().unwrap_or_default(),
            sort_by: self.sort_by.unwrap_or_default(),
            order: SortOrder::or_newest(self.sort_order),
        })
    }
}

pub(super) async fn search(Caller(engine): Caller, Body(search): Body<Search>) -> Answer {
    let window = window(search.limit, search.offset)?;
    let select = columns(search.select.as_deref(), COLUMNS)?;
    Ok(paged(engine.search_crons(search.query()?, window).await?, window, select))
}

pub(super) async fn count(Caller(engine): Caller, Body(search): Body<Search>) -> Answer<Json<u64>> {
    Ok(Json(engine.count_crons(search.query()?).await?))
}
