//! `/threads/{id}/state` and `/threads/{id}/history`.

use axum::{Json, extract::Path};
use serde::Deserialize;
use serde_json::{Value, json};
use threadyard_core::{
    ids::ThreadId,
    json::{Object, RawJson, RawObject, fields, raw},
};
use threadyard_engine::{CheckpointRef, Error, HistoryQuery, UpdateState};

use super::{
    caller::Caller,
    error::{Answer, ApiError},
    extract::{Body, Ids, Query, flag, id, invalid},
};

#[derive(Deserialize)]
pub(super) struct StateQuery {
    #[serde(default, deserialize_with = "flag")]
    subgraphs: bool,
}

pub(super) async fn get(
    Caller(engine): Caller,
    Ids((thread,)): Ids<(ThreadId,)>,
    Query(query): Query<StateQuery>,
) -> Answer<Json<RawJson>> {
    Ok(Json(engine.thread_state(thread, &CheckpointRef::default(), query.subgraphs).await?))
}

pub(super) async fn get_at(
    Caller(engine): Caller,
    Path((thread, checkpoint)): Path<(String, String)>,
    Query(query): Query<StateQuery>,
) -> Answer<Json<RawObject>> {
    let thread: ThreadId = id(&thread)?;
    let at = CheckpointRef { checkpoint_id: Some(checkpoint.clone()), ..CheckpointRef::default() };
    let mut state = fields(&engine.thread_state(thread, &at, query.subgraphs).await?);
    // Upstream: the checkpoint that was asked for is echoed without its namespace, known or not.
    state.insert("checkpoint".into(), raw(&json!({ "thread_id": thread, "checkpoint_id": checkpoint })));
    state.insert("checkpoint_id".into(), raw(&checkpoint));
    Ok(Json(state))
}

#[derive(Deserialize)]
pub(super) struct AtCheckpoint {
    checkpoint: CheckpointRef,
    #[serde(default)]
    subgraphs: bool,
}

pub(super) async fn get_at_checkpoint(
    Caller(engine): Caller,
    Ids((thread,)): Ids<(ThreadId,)>,
    Body(at): Body<AtCheckpoint>,
) -> Answer<Json<RawJson>> {
    Ok(Json(engine.thread_state(thread, &at.checkpoint, at.subgraphs).await?))
}

#[derive(Deserialize)]
pub(super) struct Update {
    #[serde(default)]
    values: Option<RawJson>,
    as_node: Option<String>,
    #[serde(default)]
    checkpoint: Option<CheckpointRef>,
    checkpoint_id: Option<String>,
}

pub(super) async fn update(
    Caller(engine): Caller,
    Ids((thread,)): Ids<(ThreadId,)>,
    Body(update): Body<Update>,
) -> Answer<Json<Value>> {
    match update.values.as_ref().and_then(|values| values.get().bytes().next()) {
        None | Some(b'{' | b'n') => {}
        Some(b'[') => check_list(&update)?,
        Some(_) => return Err(invalid("values: must be an object, a list of objects, or null")),
    }
    let checkpoint = CheckpointRef::named(update.checkpoint, update.checkpoint_id);
    let change = UpdateState { values: update.values, as_node: update.as_node, checkpoint };
    let made = engine.update_thread_state(thread, change).await?.configurable;
    let checkpoint_id = made.get("checkpoint_id").cloned();
    Ok(Json(json!({ "checkpoint": made, "configurable": made, "checkpoint_id": checkpoint_id })))
}

fn check_list(update: &Update) -> Result<(), ApiError> {
    let items: Vec<Value> =
        update.values.as_ref().and_then(|it| serde_json::from_str(it.get()).ok()).unwrap_or_default();
    if items.is_empty() || !items.iter().all(Value::is_object) {
        return Err(Error::Refused("values: a list must hold objects".into()).into());
    }
    Ok(())
}

#[derive(Deserialize)]
pub(super) struct HistoryParameters {
    limit: Option<u32>,
    before: Option<String>,
}

pub(super) async fn history(
    Caller(engine): Caller,
    Ids((thread,)): Ids<(ThreadId,)>,
    Query(query): Query<HistoryParameters>,
) -> Answer<Json<RawJson>> {
    let query = HistoryQuery {
        limit: history_limit(query.limit)?,
        before: query.before,
        metadata: None,
        checkpoint: CheckpointRef::default(),
    };
    Ok(Json(engine.thread_history(thread, &query).await?))
}

#[derive(Deserialize)]
pub(super) struct HistorySearch {
    limit: Option<u32>,
    #[serde(default)]
    before: Option<Value>,
    #[serde(default)]
    metadata: Option<Object>,
    #[serde(default)]
    checkpoint: Option<CheckpointRef>,
}

pub(super) async fn search_history(
    Caller(engine): Caller,
    Ids((thread,)): Ids<(ThreadId,)>,
    Body(search): Body<HistorySearch>,
) -> Answer<Json<RawJson>> {
    let query = HistoryQuery {
        limit: history_limit(search.limit)?,
        before: search.before.as_ref().map(before).transpose()?,
        metadata: search.metadata,
        checkpoint: search.checkpoint.unwrap_or_default(),
    };
    Ok(Json(engine.thread_history(thread, &query).await?))
}

/// `before` is a checkpoint's id, the checkpoint, or a config that names it.
fn before(given: &Value) -> Result<String, ApiError> {
    let id = given.as_str().or_else(|| given["checkpoint_id"].as_str());
    id.or_else(|| given["configurable"]["checkpoint_id"].as_str())
        .map(str::to_owned)
        .ok_or_else(|| invalid("before: must be a checkpoint id, or an object with `checkpoint_id`"))
}

fn history_limit(limit: Option<u32>) -> Result<u32, ApiError> {
    match limit.unwrap_or(1) {
        limit @ 1..=1000 => Ok(limit),
        limit => Err(invalid(format!("limit: {limit} must be between 1 and 1000"))),
    }
}
