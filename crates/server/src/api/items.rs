//! `/store`.

use std::time::Duration;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use threadyard_core::{
    items::{FoundItem, Item, NamespaceQuery},
    json::{Object, RawJson, fields_of},
    page::Window,
    time::Timestamp,
};
use threadyard_engine::{Indexing, ItemQuery, PutItem};

use super::{
    caller::Caller,
    error::{Answer, ApiError},
    extract::{Body, Query, invalid},
};

#[derive(Deserialize)]
pub(super) struct Put {
    namespace: Vec<String>,
    key: String,
    value: RawJson,
    ttl: Option<f64>,
    index: Option<Index>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Index {
    Switch(bool),
    Fields(Vec<String>),
}

pub(super) async fn put(Caller(engine): Caller, Body(put): Body<Put>) -> Answer<StatusCode> {
    if fields_of(&put.value).is_none() {
        return Err(invalid("value: must be an object"));
    }
    let indexing = match put.index {
        None => Indexing::AsConfigured,
        Some(Index::Fields(fields)) => Indexing::Fields(fields),
        Some(Index::Switch(false)) => Indexing::Never,
        Some(Index::Switch(true)) => return Err(invalid("index: must be false, a list of fields, or null")),
    };
    let ttl = put.ttl.map(minutes).transpose()?;
    engine.put_item(PutItem { namespace: put.namespace, key: put.key, value: put.value, ttl, indexing }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn minutes(minutes: f64) -> Result<Duration, ApiError> {
    Duration::try_from_secs_f64(minutes * 60.0)
        .map_err(|_| invalid(format!("ttl: {minutes} must be a number of minutes")))
}

#[derive(Deserialize)]
pub(super) struct Get {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    key: String,
    refresh_ttl: Option<String>,
}

pub(super) async fn get(Caller(engine): Caller, Query(get): Query<Get>) -> Answer {
    let namespace: Vec<_> = get.namespace.split('.').map(str::to_owned).collect();
    // Upstream: what is not a yes or no is as good as nothing.
    let refresh = match get.refresh_ttl.as_deref() {
        Some("true" | "True" | "1") => Some(true),
        Some("false" | "False" | "0") => Some(false),
        _ => None,
    };
    let found = engine.item(namespace, get.key.clone(), refresh).await?;
    if get.key.is_empty() {
        return Ok(no_key());
    }
    Ok(Json(found.as_ref().map(Shown::of)).into_response())
}

/// Upstream: this one error has a key of its own.
fn no_key() -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": "Key is required" }))).into_response()
}

#[derive(Deserialize)]
pub(super) struct Delete {
    #[serde(default)]
    namespace: Vec<String>,
    key: String,
}

pub(super) async fn delete(Caller(engine): Caller, Body(delete): Body<Delete>) -> Answer<StatusCode> {
    engine.delete_item(delete.namespace, delete.key).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    namespace_prefix: Option<Vec<String>>,
    #[serde(default)]
    filter: Option<Object>,
    query: Option<String>,
    limit: Option<i64>,
    offset: Option<i64>,
    refresh_ttl: Option<bool>,
}

pub(super) async fn search(Caller(engine): Caller, Body(search): Body<Search>) -> Answer<Json<Value>> {
    let query = ItemQuery {
        prefix: search.namespace_prefix.unwrap_or_default(),
        filter: search.filter.unwrap_or_default(),
        query: search.query,
        window: window(search.limit, 10, search.offset),
        refresh: search.refresh_ttl,
    };
    let found = engine.search_items(query).await?;
    Ok(Json(json!({ "items": found.iter().map(Scored::of).collect::<Vec<_>>() })))
}

#[derive(Deserialize)]
pub(super) struct List {
    prefix: Option<Vec<String>>,
    suffix: Option<Vec<String>>,
    max_depth: Option<i64>,
    limit: Option<i64>,
    offset: Option<i64>,
}

pub(super) async fn namespaces(Caller(engine): Caller, Body(list): Body<List>) -> Answer<Json<Value>> {
    let query = NamespaceQuery {
        prefix: list.prefix.unwrap_or_default(),
        suffix: list.suffix.unwrap_or_default(),
        max_depth: list.max_depth.map(|depth| usize::try_from(depth).unwrap_or_default()),
        window: window(list.limit, 100, list.offset),
    };
    Ok(Json(json!({ "namespaces": engine.list_namespaces(query).await? })))
}

/// Upstream: a limit may be anything; below zero there is nothing.
fn window(limit: Option<i64>, usual: u32, offset: Option<i64>) -> Window {
    let bounded = |number: i64| u32::try_from(number.max(0)).unwrap_or(u32::MAX);
    Window { limit: limit.map_or(usual, bounded), offset: offset.map_or(0, bounded) }
}

/// An item as the API shows it.
#[derive(Serialize)]
struct Shown<'a> {
    namespace: &'a [String],
    key: &'a str,
    value: &'a RawJson,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// An item that a search found.
#[derive(Serialize)]
struct Scored<'a> {
    #[serde(flatten)]
    item: Shown<'a>,
    score: Option<f64>,
}

impl<'a> Shown<'a> {
    fn of(item: &'a Item) -> Self {
        Self {
            namespace: &item.namespace,
            key: &item.key,
            value: &item.value,
            created_at: item.created_at,
            updated_at: item.updated_at,
        }
    }
}

impl<'a> Scored<'a> {
    fn of(found: &'a FoundItem) -> Self {
        Self { item: Shown::of(&found.item), score: found.score }
    }
}
