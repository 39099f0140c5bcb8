//! `/threads`.

use std::{collections::BTreeMap, time::Duration};
use threadyard_core::metadata_filter::MetadataFilter;

use axum::{
    Json,
    extract::{Path, RawQuery},
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use threadyard_core::{
    checkpoints::PruneStrategy,
    ids::ThreadId,
    json::{Object, RawJson, RawObject, fields, fields_of, raw, raw_null},
    page::Page,
    retention::ThreadTtl,
    stream::EventId,
    threads::{Thread, ThreadPatch, ThreadQuery, ThreadSort, ThreadStatus, Usage},
};
use threadyard_engine::{Error, ThreadRequest, ThreadStreamMode};

use super::{
    caller::Caller,
    error::{Answer, ApiError},
    extract::{Body, Ids, id, invalid, repeated},
    page::{IfExists, SortOrder, columns, paged, selected, window},
    sse,
};

#[derive(Deserialize)]
pub(super) struct Create {
    thread_id: Option<String>,
    #[serde(default)]
    metadata: Option<Object>,
    if_exists: Option<IfExists>,
    ttl: Option<Ttl>,
    #[serde(default)]
    supersteps: Vec<Superstep>,
}

/// How long a thread is kept, in minutes.
#[derive(Clone, Copy, Deserialize)]
pub(super) struct Ttl {
    #[serde(default = "deleted")]
    strategy: PruneStrategy,
    ttl: Option<f64>,
}

fn deleted() -> PruneStrategy {
    PruneStrategy::Delete
}

impl Ttl {
    fn read(given: Option<Self>) -> Result<Option<ThreadTtl>, ApiError> {
        let Some(Self { strategy, ttl }) = given else { return Ok(None) };
        let minutes = ttl.ok_or_else(|| invalid("ttl.ttl: is missing; say after how many minutes"))?;
        let ttl = Duration::try_from_secs_f64(minutes * 60.0)
            .map_err(|_| invalid(format!("ttl.ttl: {minutes} must be a number of minutes")))?;
        Ok(Some(ThreadTtl { strategy, ttl }))
    }
}

#[derive(Deserialize, Serialize)]
struct Superstep {
    updates: Vec<SuperstepUpdate>,
}

#[derive(Deserialize, Serialize)]
struct SuperstepUpdate {
    #[serde(default)]
    values: Option<Value>,
    #[serde(default)]
    command: Option<Object>,
    as_node: String,
}

pub(super) async fn create(Caller(engine): Caller, Body(create): Body<Create>) -> Answer {
    if create.supersteps.iter().any(|superstep| superstep.updates.is_empty()) {
        return Err(ApiError(Error::Refused("supersteps: a superstep has no updates".into())));
    }
    let request = ThreadRequest {
        thread_id: create.thread_id.as_deref().map(id).transpose()?,
        metadata: create.metadata.unwrap_or_default(),
        ttl: Ttl::read(create.ttl)?,
    };
    let thread = engine.create_thread(request, create.if_exists == Some(IfExists::DoNothing)).await?;
    if create.supersteps.is_empty() {
        return Ok(Json(thread).into_response());
    }
    let supersteps: Vec<Value> = create.supersteps.iter().map(|superstep| json!(superstep)).collect();
    match engine.replay_supersteps(thread.thread_id, &supersteps).await {
        Ok(()) => Ok(Json(engine.thread(thread.thread_id).await?).into_response()),
        // Upstream: the thread stays, and the status says that it was made.
        Err(error) => {
            let detail =
                format!("thread {} was created, but its state could not be updated: {error}", thread.thread_id);
            Ok((StatusCode::CREATED, Json(json!({ "detail": detail }))).into_response())
        }
    }
}

pub(super) async fn get(Caller(engine): Caller, Ids((id,)): Ids<(ThreadId,)>) -> Answer<Json<Thread>> {
    Ok(Json(engine.thread(id).await?))
}

#[derive(Deserialize)]
pub(super) struct Patch {
    #[serde(default)]
    metadata: Option<Object>,
    ttl: Option<Ttl>,
}

pub(super) async fn patch(
    Caller(engine): Caller,
    Ids((id,)): Ids<(ThreadId,)>,
    headers: HeaderMap,
    Body(patch): Body<Patch>,
) -> Answer {
    let patch = ThreadPatch {
        within: MetadataFilter::default(),
        metadata: patch.metadata.unwrap_or_default(),
        ttl: Ttl::read(patch.ttl)?,
    };
    let thread = engine.patch_thread(id, patch).await?;
    let minimal = headers.get("prefer").is_some_and(|prefer| prefer == "return=minimal");
    Ok(if minimal { StatusCode::NO_CONTENT.into_response() } else { Json(thread).into_response() })
}

pub(super) async fn delete(Caller(engine): Caller, Ids((id,)): Ids<(ThreadId,)>) -> Answer<StatusCode> {
    engine.delete_thread(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn copy(Caller(engine): Caller, Path(thread): Path<String>) -> Answer<Json<Thread>> {
    // Upstream: 400 here, though a bad id in other paths is 422.
    let id = thread.parse().map_err(|_| ApiError(Error::Refused(format!("`{thread}` is not a UUID"))))?;
    Ok(Json(engine.copy_thread(id).await?))
}

/// Follows all runs of a thread, one after the other.
pub(super) async fn stream(
    Caller(engine): Caller,
    Ids((thread,)): Ids<(ThreadId,)>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Answer {
    // The documentation names one parameter, and the SDKs send the other.
    let given = ["stream_modes", "stream_mode"].into_iter().flat_map(|name| repeated(query.as_deref(), name));
    let named: Vec<_> = given.flat_map(|modes| modes.split(',').map(str::to_owned).collect::<Vec<_>>()).collect();
    let mode = |name: &String| match name.as_str() {
        "run_modes" => Ok(ThreadStreamMode::RunModes),
        "lifecycle" => Ok(ThreadStreamMode::Lifecycle),
        "state_update" => Ok(ThreadStreamMode::StateUpdate),
        other => Err(invalid(format!("stream_modes: `{other}` is not run_modes, lifecycle or state_update"))),
    };
    let mut modes = named.iter().map(mode).collect::<Result<Vec<_>, _>>()?;
    if modes.is_empty() {
        modes.push(ThreadStreamMode::RunModes);
    }
    Ok(sse::thread_events(engine.follow_thread(thread, modes, last_event(&headers)?).await?))
}

/// The last event that a client has; a dash stands for none.
fn last_event(headers: &HeaderMap) -> Result<Option<EventId>, ApiError> {
    let Some(given) = headers.get("last-event-id") else { return Ok(None) };
    let given = given.to_str().unwrap_or_default();
    match given {
        "" => Ok(None),
        "-" => Ok(Some(EventId::START)),
        id => EventId::parse(id)
            .map(Some)
            .ok_or_else(|| invalid(format!("last-event-id: `{id}` is not the id of an event"))),
    }
}

#[derive(Deserialize)]
pub(super) struct Prune {
    thread_ids: Vec<String>,
    #[serde(default = "deleted")]
    strategy: PruneStrategy,
}

pub(super) async fn prune(Caller(engine): Caller, Body(prune): Body<Prune>) -> Answer<Json<Value>> {
    let ids = prune.thread_ids.iter().map(|text| id(text)).collect::<Result<_, _>>()?;
    let pruned = engine.prune_threads(ids, prune.strategy).await?;
    Ok(Json(json!({ "pruned_count": pruned })))
}

pub(super) async fn storage(Caller(engine): Caller, Ids((id,)): Ids<(ThreadId,)>) -> Answer<Json<Value>> {
    let used = engine.thread_storage(id).await?;
    let sum = |of: fn(&Usage) -> u64| used.channels.iter().map(|(_, usage)| of(usage)).sum::<u64>();
    let channel_bytes = sum(|usage| usage.bytes);
    let by_channel: Object = used
        .channels
        .iter()
        .map(|(channel, usage)| (channel.clone(), json!({ "versions": usage.count, "bytes": usage.bytes })))
        .collect();
    Ok(Json(json!({
        "thread_id": id,
        "total_bytes": used.checkpoints.bytes + channel_bytes + used.pending_writes.bytes,
        "checkpoints": used.checkpoints,
        "channel_values": { "count": sum(|usage| usage.count), "bytes": channel_bytes, "by_channel": by_channel },
        "pending_writes": used.pending_writes,
    })))
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
    #[serde(default)]
    extract: Option<BTreeMap<String, String>>,
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
            visible: MetadataFilter::default(),
            ids: self.ids.iter().flatten().map(parsed).collect::<Result<_, _>>()?,
            metadata: self.metadata.clone().unwrap_or_default(),
            values: self.values.clone().unwrap_or_default(),
            status: self.status,
            sort_by,
            order: SortOrder::or_newest(self.sort_order),
        })
    }
}

pub(super) async fn search(Caller(engine): Caller, Body(search): Body<Search>) -> Answer {
    let extract = Extract::read(search.extract.as_ref())?;
    let window = window(search.limit, search.offset)?;
    let select = columns(search.select.as_deref(), COLUMNS)?;
    let Page { rows, more } = engine.search_threads(search.query()?, window).await?;
    let rows = rows.iter().map(|row| extract.apply(row, select)).collect();
    Ok(paged(Page { rows, more }, window, None))
}

pub(super) async fn count(Caller(engine): Caller, Body(search): Body<Search>) -> Answer<Json<u64>> {
    Ok(Json(engine.count_threads(search.query()?).await?))
}

/// Values to be shown by themselves, under names that the client chose.
struct Extract<'a>(Vec<(&'a str, Vec<&'a str>)>);

impl<'a> Extract<'a> {
    fn read(given: Option<&'a BTreeMap<String, String>>) -> Result<Self, ApiError> {
        let paths = given.into_iter().flatten().map(|(name, path)| {
            let steps: Vec<_> = path.split('.').collect();
            match steps[0] {
                "config" | "interrupts" | "metadata" | "values" => Ok((name.as_str(), steps)),
                _ => Err(invalid(format!(
                    "extract.{name}: `{path}` must begin with config, interrupts, metadata or values"
                ))),
            }
        });
        paths.collect::<Result<_, _>>().map(Self)
    }

    /// A thread with the columns that are wanted, and what was extracted.
    fn apply(&self, thread: &Thread, select: Option<&[String]>) -> RawObject {
        let whole = raw(thread);
        let mut shown = select.map_or_else(|| fields(thread), |columns| selected(thread, columns));
        if !self.0.is_empty() {
            let found = |(name, path): &(&str, Vec<&str>)| ((*name).to_owned(), follow(&whole, path));
            shown.insert("extracted".into(), raw(&self.0.iter().map(found).collect::<RawObject>()));
        }
        shown
    }
}

/// What lies at the end of a path, or null.
fn follow(whole: &RawJson, path: &[&str]) -> RawJson {
    let step = |json: RawJson, step: &&str| match fields_of(&json) {
        Some(mut object) => object.swap_remove(*step),
        None => serde_json::from_str::<Vec<RawJson>>(json.get()).ok()?.into_iter().nth(step.parse().ok()?),
    };
    path.iter().try_fold(whole.clone(), step).unwrap_or_else(raw_null)
}
