//! `/webhooks/destinations`, `/webhooks/test` and `/webhooks/recover`: receivers, trying one, and sending again at large.

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use threadyard_core::{deliveries::Recovery, ids::RecoveryId};
use threadyard_engine::{Destination, Engine, TestSent};

use super::{
    access::Operator,
    deliveries::Search,
    error::Answer,
    extract::{Body, Ids},
};

pub(super) async fn list(_: Operator, State(engine): State<Engine>) -> Answer<Json<Vec<Destination>>> {
    Ok(Json(engine.destinations().await?))
}

#[derive(Deserialize)]
pub(super) struct Probe {
    origin: String,
}

pub(super) async fn probe(_: Operator, State(engine): State<Engine>, Body(probe): Body<Probe>) -> Answer<StatusCode> {
    engine.probe_destination(&probe.origin)?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Deserialize)]
pub(super) struct Test {
    url: String,
    event: Option<String>,
}

pub(super) async fn test(_: Operator, State(engine): State<Engine>, Body(test): Body<Test>) -> Answer<Json<TestSent>> {
    Ok(Json(engine.test_webhook(&test.url, test.event.as_deref().unwrap_or("run.success")).await?))
}

pub(super) async fn recover(
    _: Operator,
    State(engine): State<Engine>,
    Body(search): Body<Search>,
) -> Answer<(StatusCode, Json<Recovery>)> {
    Ok((StatusCode::ACCEPTED, Json(engine.recover_deliveries(search.settled()?).await?)))
}

pub(super) async fn recovery(
    _: Operator,
    State(engine): State<Engine>,
    Ids((id,)): Ids<(RecoveryId,)>,
) -> Answer<Json<Recovery>> {
    Ok(Json(engine.recovery(id).await?))
}
