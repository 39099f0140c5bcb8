//! `/runs`: runs that bring their own thread.

use axum::{Json, extract::State, http::HeaderMap, response::IntoResponse};
use threadyard_core::ids::RunId;
use threadyard_engine::{Engine, ThreadChoice};

use super::{
    error::Answer,
    extract::{Body, Ids, Query, invalid},
    runs::{Create, Join, OnCompletion, join_stream_of, places, wait_in},
    sse::{self, Watchdog},
};

impl Create {
    fn own_thread(&self) -> ThreadChoice {
        ThreadChoice::New(self.on_completion != Some(OnCompletion::Keep))
    }
}

pub(super) async fn create(State(engine): State<Engine>, Body(create): Body<Create>) -> Answer {
    let choice = create.own_thread();
    let run = engine.create_run(create.request()?, choice).await?.run;
    Ok((places(&format!("/runs/{}", run.run_id), None), Json(run)).into_response())
}

pub(super) async fn batch(State(engine): State<Engine>, Body(batch): Body<Vec<Create>>) -> Answer {
    if batch.is_empty() {
        return Err(invalid("the batch is empty"));
    }
    let mut runs = Vec::with_capacity(batch.len());
    for create in batch {
        let choice = create.own_thread();
        runs.push(engine.create_run(create.request()?, choice).await?.run);
    }
    Ok(Json(runs).into_response())
}

pub(super) async fn stream(State(engine): State<Engine>, Body(create): Body<Create>) -> Answer {
    let choice = create.own_thread();
    let cancels = create.cancels_on_disconnect();
    let started = engine.create_run(create.request()?, choice).await?;
    let place = format!("/runs/{}", started.run.run_id);
    let headers = places(&place, Some(&format!("{place}/stream")));
    let watchdog = Watchdog::new(engine, started.run.thread_id, started.run.run_id, cancels);
    Ok(sse::events(started.stream, watchdog, headers))
}

pub(super) async fn wait(State(engine): State<Engine>, Body(create): Body<Create>) -> Answer {
    let choice = create.own_thread();
    wait_in(engine, choice, create).await
}

/// Upstream's SDKs reconnect here: the `Location` of a stateless stream names no thread.
pub(super) async fn join_stream(
    State(engine): State<Engine>,
    Ids((run,)): Ids<(RunId,)>,
    Query(join): Query<Join>,
    headers: HeaderMap,
) -> Answer {
    let thread = engine.run_by_id(run).await?.thread_id;
    join_stream_of(engine, (thread, run), &join, &headers).await
}
