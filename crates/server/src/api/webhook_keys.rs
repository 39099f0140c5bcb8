//! `/webhooks/secret` and `/webhooks/public-key`: what receivers check signatures with.

use std::time::Duration;

use axum::Json;
use serde::{Deserialize, Serialize};
use threadyard_core::time::Timestamp;
use threadyard_engine::{USUAL_GRACE, signing::ShownKey};

use super::{
    access::Operator,
    caller::Caller,
    error::Answer,
    extract::{Body, Query, invalid},
};

/// The newest key, and those that still sign beside it.
#[derive(Serialize)]
pub(super) struct Keys {
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    key: String,
    previous: Vec<Previous>,
}

#[derive(Serialize)]
struct Previous {
    key: String,
    expires_at: Option<Timestamp>,
}

impl Keys {
    fn of(origin: Option<String>, keys: Vec<ShownKey>) -> Self {
        let mut keys = keys.into_iter();
        let key = keys.next().map(|newest| newest.key).unwrap_or_default();
        let previous = keys.map(|ShownKey { key, expires_at }| Previous { key, expires_at }).collect();
        Self { origin, key, previous }
    }
}

#[derive(Deserialize)]
pub(super) struct OfReceiver {
    origin: String,
}

pub(super) async fn secret(
    _: Operator,
    Caller(engine): Caller,
    Query(receiver): Query<OfReceiver>,
) -> Answer<Json<Keys>> {
    let (origin, secrets) = engine.webhook_secrets(&receiver.origin)?;
    Ok(Json(Keys::of(Some(origin), secrets)))
}

pub(super) async fn public_key(Caller(engine): Caller) -> Json<Keys> {
    Json(Keys::of(None, engine.webhook_public_keys()))
}

#[derive(Deserialize)]
pub(super) struct Rotate {
    grace_seconds: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct Rotated {
    previous_expire_at: Timestamp,
}

pub(super) async fn rotate(_: Operator, Caller(engine): Caller, Body(rotate): Body<Rotate>) -> Answer<Json<Rotated>> {
    let grace = match rotate.grace_seconds {
        None => USUAL_GRACE,
        Some(seconds) => Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|grace| *grace <= Duration::from_hours(24 * 365))
            .ok_or_else(|| invalid("grace_seconds: must be from zero to a year"))?,
    };
    Ok(Json(Rotated { previous_expire_at: engine.rotate_webhook_keys(grace).await? }))
}
