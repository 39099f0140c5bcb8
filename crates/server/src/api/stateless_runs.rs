//! `/runs`: runs that bring their own thread.

use axum::{
    Json,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use serde::Deserialize;
use threadyard_core::{cancel::CancelAction, ids::RunId, runs::RunStatus};
use threadyard_engine::{CancelRuns, RunFields, ThreadChoice};

use super::{
    caller::Caller,
    error::{Answer, ApiError},
    extract::{Body, Ids, Query, id, invalid},
    request_id::NewRuns,
    runs::{Join, join_stream_of, places, wait_in},
    sse::{self, Watchdog},
};

fn own_thread(create: &RunFields) -> Result<ThreadChoice, ApiError> {
    Ok(ThreadChoice::New(!create.keeps_thread()?))
}

pub(super) async fn create(Caller(engine): Caller, NewRuns(create): NewRuns<RunFields>) -> Answer {
    let choice = own_thread(&create)?;
    let run = engine.create_run(create.request()?, choice).await?.run;
    Ok((places(&format!("/runs/{}", run.run_id), None), Json(run)).into_response())
}

pub(super) async fn batch(Caller(engine): Caller, NewRuns(batch): NewRuns<Vec<RunFields>>) -> Answer {
    if batch.is_empty() {
        return Err(invalid("the batch is empty"));
    }
    let mut requests = Vec::with_capacity(batch.len());
    for create in batch {
        let temporary = !create.keeps_thread()?;
        requests.push((create.request()?, temporary));
    }
    Ok(Json(engine.create_runs(requests).await?).into_response())
}

pub(super) async fn stream(Caller(engine): Caller, NewRuns(create): NewRuns<RunFields>) -> Answer {
    let choice = own_thread(&create)?;
    let cancels = create.cancels_on_disconnect()?;
    let started = engine.create_run(create.request()?, choice).await?;
    let place = format!("/runs/{}", started.run.run_id);
    let headers = places(&place, Some(&format!("{place}/stream")));
    let watchdog = Watchdog::new(engine, started.run.thread_id, started.run.run_id, cancels);
    Ok(sse::events(started.stream, watchdog, headers))
}

pub(super) async fn wait(Caller(engine): Caller, NewRuns(create): NewRuns<RunFields>) -> Answer {
    let choice = own_thread(&create)?;
    wait_in(engine, choice, create).await
}

/// Either some runs of one thread, or all with a status.
#[derive(Deserialize)]
pub(super) struct Cancel {
    thread_id: Option<String>,
    run_ids: Option<Vec<String>>,
    status: Option<CancelStatus>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CancelStatus {
    Pending,
    Running,
    All,
}

#[derive(Deserialize)]
pub(super) struct CancelHow {
    action: Option<CancelAction>,
}

pub(super) async fn cancel(
    Caller(engine): Caller,
    Query(how): Query<CancelHow>,
    Body(cancel): Body<Cancel>,
) -> Answer<StatusCode> {
    let which = match (cancel.thread_id, cancel.run_ids, cancel.status) {
        (Some(thread), Some(runs), None) => {
            CancelRuns::OfThread(id(&thread)?, runs.iter().map(|run| id(run)).collect::<Result<_, _>>()?)
        }
        (None, None, Some(CancelStatus::Pending)) => CancelRuns::WithStatus(Some(RunStatus::Pending)),
        (None, None, Some(CancelStatus::Running)) => CancelRuns::WithStatus(Some(RunStatus::Running)),
        (None, None, Some(CancelStatus::All)) => CancelRuns::WithStatus(None),
        _ => return Err(invalid("give either thread_id and run_ids, or status")),
    };
    engine.cancel_runs(which, how.action.unwrap_or(CancelAction::Interrupt)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Upstream's SDKs reconnect here: the `Location` of a stateless stream names no thread.
pub(super) async fn join_stream(
    Caller(engine): Caller,
    Ids((run,)): Ids<(RunId,)>,
    Query(join): Query<Join>,
    headers: HeaderMap,
) -> Answer {
    let thread = engine.run_by_id(run).await?.thread_id;
    join_stream_of(engine, (thread, run), &join, &headers).await
}
