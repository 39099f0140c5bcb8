//! `/threads/{id}/runs`.

use axum::{
    Json,
    extract::{Path, RawQuery},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::json;
use threadyard_core::{
    cancel::CancelAction,
    ids::{RunId, ThreadId},
    page::Window,
    runs::{Run, RunQuery, RunStatus},
    stream::StreamMode,
};
use threadyard_engine::{Engine, Error, RunFields, ThreadChoice};

use super::{
    caller::Caller,
    error::{Answer, ApiError},
    extract::{Ids, Query, flag, id, invalid, repeated},
    page::{columns, selected},
    request_id::{Configurable, NewRuns},
    sse::{self, Watchdog},
};

/// Where a run is found: the headers by which clients learn its id.
pub(super) fn places(content_location: &str, location: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = |text: &str| HeaderValue::from_str(text).ok();
    headers.extend(value(content_location).map(|value| (header::CONTENT_LOCATION, value)));
    headers.extend(location.and_then(value).map(|value| (header::LOCATION, value)));
    headers
}

/// What a run is created with that another protocol asks for.
pub(super) fn fields(run: serde_json::Value, of_request: &Configurable) -> RunFields {
    let mut fields: RunFields = serde_json::from_value(run).expect("the fields of own runs have their shapes");
    fields.add_configurable(&of_request.0);
    fields
}

fn at(thread: ThreadId, run: RunId) -> String {
    format!("/threads/{thread}/runs/{run}")
}

pub(super) async fn create(
    Caller(engine): Caller,
    Ids((thread,)): Ids<(ThreadId,)>,
    NewRuns(create): NewRuns<RunFields>,
) -> Answer {
    let choice = ThreadChoice::Existing(thread, create.makes_thread());
    let run = engine.create_run(create.request()?, choice).await?.run;
    Ok((places(&at(thread, run.run_id), None), Json(run)).into_response())
}

pub(super) async fn stream(
    Caller(engine): Caller,
    Ids((thread,)): Ids<(ThreadId,)>,
    NewRuns(create): NewRuns<RunFields>,
) -> Answer {
    let choice = ThreadChoice::Existing(thread, create.makes_thread());
    let cancels = create.cancels_on_disconnect()?;
    let started = engine.create_run(create.request()?, choice).await?;
    let place = at(thread, started.run.run_id);
    let headers = places(&place, Some(&format!("{place}/stream")));
    let watchdog = Watchdog::new(engine, thread, started.run.run_id, cancels);
    Ok(sse::events(started.stream, watchdog, headers))
}

pub(super) async fn wait(
    Caller(engine): Caller,
    Ids((thread,)): Ids<(ThreadId,)>,
    NewRuns(create): NewRuns<RunFields>,
) -> Answer {
    wait_in(engine, ThreadChoice::Existing(thread, create.makes_thread()), create).await
}

/// Creates a run and answers what it results in.
pub(super) async fn wait_in(engine: Engine, choice: ThreadChoice, create: RunFields) -> Answer {
    let cancels = create.cancels_on_disconnect()?;
    let started = engine.create_run(create.request()?, choice).await?;
    let (thread, run) = (started.run.thread_id, started.run.run_id);
    let place = at(thread, run);
    let headers = places(&place, Some(&format!("{place}/join")));
    let watchdog = Watchdog::new(engine.clone(), thread, run, cancels);
    let result = async move { engine.wait_for(thread, run, started.stream).await };
    Ok(sse::waiting(result, watchdog, headers))
}

#[derive(Deserialize)]
pub(super) struct List {
    limit: Option<u32>,
    offset: Option<u32>,
    status: Option<String>,
}

/// What `select` may name.
const COLUMNS: &[&str] = &[
    "run_id",
    "thread_id",
    "assistant_id",
    "created_at",
    "updated_at",
    "status",
    "metadata",
    "kwargs",
    "multitask_strategy",
    "langsmith_session_name",
];

pub(super) async fn list(
    Caller(engine): Caller,
    Ids((thread_id,)): Ids<(ThreadId,)>,
    list: Result<Query<List>, ApiError>,
    RawQuery(query): RawQuery,
) -> Answer {
    // Upstream: 400 here, though a bad parameter of a history is 422.
    let Query(list) = list.map_err(|ApiError(error)| Error::Refused(error.to_string()))?;
    let select = repeated(query.as_deref(), "select");
    let select = columns((!select.is_empty()).then_some(&select[..]), COLUMNS)?;
    let status = match list.status.as_deref().map(RunStatus::parse) {
        // Upstream: an unknown status matches nothing.
        Some(None) => {
            engine.thread(thread_id).await?;
            return Ok(Json(Vec::<Run>::new()).into_response());
        }
        known => known.flatten(),
    };
    let window = Window { limit: list.limit.unwrap_or(10), offset: list.offset.unwrap_or(0) };
    let runs = engine.list_runs(RunQuery { thread_id, status }, window).await?.rows;
    Ok(match select {
        None => Json(runs).into_response(),
        Some(columns) => Json(runs.iter().map(|run| selected(run, columns)).collect::<Vec<_>>()).into_response(),
    })
}

pub(super) async fn get(Caller(engine): Caller, Ids((thread, run)): Ids<(ThreadId, RunId)>) -> Answer<Json<Run>> {
    Ok(Json(engine.run(thread, run).await?))
}

pub(super) async fn delete(Caller(engine): Caller, Ids((thread, run)): Ids<(ThreadId, RunId)>) -> Answer<StatusCode> {
    engine.delete_run(thread, run).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(super) struct Join {
    #[serde(default, deserialize_with = "flag")]
    cancel_on_disconnect: bool,
    stream_mode: Option<String>,
}

pub(super) async fn join(
    Caller(engine): Caller,
    Ids((thread, run)): Ids<(ThreadId, RunId)>,
    Query(join): Query<Join>,
) -> Answer {
    if join.cancel_on_disconnect {
        engine.may_abandon(thread, run).await?;
    }
    let place = at(thread, run);
    let headers = places(&place, Some(&format!("{place}/join")));
    let watchdog = Watchdog::new(engine.clone(), thread, run, join.cancel_on_disconnect);
    Ok(sse::waiting(async move { engine.join_run(thread, run).await }, watchdog, headers))
}

pub(super) async fn join_stream(
    Caller(engine): Caller,
    Ids((thread, run)): Ids<(ThreadId, RunId)>,
    Query(join): Query<Join>,
    headers: HeaderMap,
) -> Answer {
    join_stream_of(engine, (thread, run), &join, &headers).await
}

pub(super) async fn join_stream_of(
    engine: Engine,
    (thread, run): (ThreadId, RunId),
    join: &Join,
    headers: &HeaderMap,
) -> Answer {
    let modes = modes(join.stream_mode.as_deref())?;
    if join.cancel_on_disconnect {
        engine.may_abandon(thread, run).await?;
    }
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let place = at(thread, run);
    let headers = places(&place, Some(&format!("{place}/stream")));
    match engine.join_stream(thread, run, last, modes).await {
        Ok(stream) => {
            let watchdog = Watchdog::new(engine, thread, run, join.cancel_on_disconnect);
            Ok(sse::events(stream, watchdog, headers))
        }
        // Upstream: the failure is in the stream.
        Err(Error::NotFound(_)) => {
            let error = json!({ "error": "HTTPException", "message": "404: Run not found" });
            Ok(sse::single("error", &error, headers))
        }
        Err(error) => Err(error.into()),
    }
}

fn modes(given: Option<&str>) -> Result<Vec<StreamMode>, ApiError> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(Vec::new()) };
    let mode = |name: &str| {
        serde_json::from_value(name.trim().into())
            .map_err(|_| invalid(format!("stream_mode: `{name}` is not a stream mode")))
    };
    given.split(',').map(mode).collect()
}

#[derive(Deserialize)]
pub(super) struct Cancel {
    #[serde(default, deserialize_with = "flag")]
    wait: bool,
    action: Option<String>,
}

pub(super) async fn cancel(
    Caller(engine): Caller,
    Path((thread, run)): Path<(String, String)>,
    Query(cancel): Query<Cancel>,
) -> Answer {
    let (thread, run): (ThreadId, RunId) = (id(&thread)?, id(&run)?);
    let action = match cancel.action.as_deref() {
        None | Some("interrupt") => CancelAction::Interrupt,
        Some("rollback") => CancelAction::Rollback,
        Some(other) => {
            // Upstream: a run that has ended is not found, whatever the action.
            if engine.run(thread, run).await?.status.is_terminal() {
                return Err(Error::NotFound("run").into());
            }
            return Err(invalid(format!("action: `{other}` must be interrupt or rollback")));
        }
    };
    engine.cancel_run(thread, run, action, cancel.wait).await?;
    let place = at(thread, run);
    let headers = places(&place, Some(&format!("{place}/join")));
    Ok(if cancel.wait { (headers, Json(json!({}))).into_response() } else { StatusCode::ACCEPTED.into_response() })
}
