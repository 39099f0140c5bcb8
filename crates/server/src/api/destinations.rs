//! `/webhooks/destinations`, `/webhooks/test` and `/webhooks/recover`: receivers, trying one, and sending again at large.

use axum::{Json, http::StatusCode};
use serde::Deserialize;
use threadyard_core::{deliveries::Recovery, ids::RecoveryId};
use threadyard_engine::{Destination, TestSent};

use super::{
    access::Operator,
    caller::Caller,
    deliveries::Search,
    error::Answer,
    extract::{Body, Ids},
};

pub(super) async fn list(_: Operator, Caller(engine): Caller) -> Answer<Json<Vec<Destination>>> {
    Ok(Json(engine.destinations().await?))
}

#[derive(Deserialize)]
pub(super) struct Probe {
    origin: String,
}

pub(super) async fn probe(_: Operator, Caller(engine): Caller, Body(probe): Body<Probe>) -> Answer<StatusCode> {
    engine.probe_destination(&probe.origin)?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Deserialize)]
pub(super) struct Test {
    url: String,
    event: Option<String>,
}

pub(super) async fn test(_: Operator, Caller(engine): Caller, Body(test): Body<Test>) -> Answer<Json<TestSent>> {
    Ok(Json(engine.test_webhook(&test.url, test.event.as_deref().unwrap_or("run.success")).await?))
}

pub(super) async fn recover(
    _: Operator,
    Caller(engine): Caller,
    Body(search): Body<Search>,
) -> Answer<(StatusCode, Json<Recovery>)> {
    Ok((StatusCode::ACCEPTED, Json(engine.recover_deliveries(search.settled()?).await?)))
}

pub(super) async fn recovery(
    _: Operator,
    Caller(engine): Caller,
    Ids((id,)): Ids<(RecoveryId,)>,
) -> Answer<Json<Recovery>> {
    Ok(Json(engine.recovery(id).await?))
}
