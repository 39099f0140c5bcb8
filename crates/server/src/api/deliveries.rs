//! `/webhooks/deliveries`: what was sent to webhooks, and having it sent again or no more.

use axum::{
    Json,
    extract::Path,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use threadyard_core::{
    deliveries::{Attempt, Delivery, DeliveryQuery, DeliveryState},
    ids::{RunId, ThreadId},
    time::Timestamp,
    webhooks::origin,
};

use super::{
    caller::Caller,
    error::{Answer, ApiError},
    extract::{Body, Ids, id, invalid},
    page::{paged, window},
};

#[derive(Serialize)]
pub(super) struct WithAttempts {
    #[serde(flatten)]
    delivery: Delivery,
    attempts: Vec<Attempt>,
}

pub(super) async fn of_run(
    Caller(engine): Caller,
    Ids((thread, run)): Ids<(ThreadId, RunId)>,
) -> Answer<Json<Vec<WithAttempts>>> {
    let found = engine.run_deliveries(thread, run).await?;
    Ok(Json(found.into_iter().map(|(delivery, attempts)| WithAttempts { delivery, attempts }).collect()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    run_id: Option<String>,
    thread_id: Option<String>,
    state: Option<DeliveryState>,
    origin: Option<String>,
    url: Option<String>,
    since: Option<String>,
    until: Option<String>,
    limit: Option<u32>,
    offset: Option<u32>,
}

impl Search {
    pub(super) fn query(&self) -> Result<DeliveryQuery, ApiError> {
        let time = |name: &str, text: &Option<String>| -> Result<Option<Timestamp>, ApiError> {
            let read = |text: &String| {
                text.parse()
                    .map_err(|_| invalid(format!("{name}: `{text}` is not a time, such as 2030-01-01T00:00:00Z")))
            };
            text.as_ref().map(read).transpose()
        };
        Ok(DeliveryQuery {
            run_id: self.run_id.as_deref().map(id).transpose()?,
            thread_id: self.thread_id.as_deref().map(id).transpose()?,
            state: self.state,
            origin: self.origin.as_deref().map(receiver).transpose()?,
            url: self.url.clone(),
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
        })
    }
}

impl Search {
    /// What to have sent again, which is all of it and nothing that is still on its way.
    pub(super) fn settled(&self) -> Result<DeliveryQuery, ApiError> {
        if self.limit.is_some() || self.offset.is_some() {
            return Err(invalid("limit and offset: a recovery takes everything that matches"));
        }
        if let Some(DeliveryState::Pending | DeliveryState::Delivered) = self.state {
            return Err(invalid("state: only what is failed, cancelled or skipped is recovered"));
        }
        self.query()
    }
}

/// The receiver that a URL of its leads to.
fn receiver(url: &str) -> Result<String, ApiError> {
    origin(url).ok_or_else(|| invalid(format!("origin: `{url}` is not a URL such as https://a.com")))
}

pub(super) async fn search(Caller(engine): Caller, Body(search): Body<Search>) -> Answer {
    let window = window(search.limit, search.offset)?;
    Ok(paged(engine.search_deliveries(search.query()?, window).await?, window, None))
}

pub(super) async fn count(Caller(engine): Caller, Body(search): Body<Search>) -> Answer<Json<u64>> {
    Ok(Json(engine.count_deliveries(search.query()?).await?))
}

pub(super) async fn get(Caller(engine): Caller, Path(id): Path<String>) -> Answer<Json<Delivery>> {
    Ok(Json(engine.delivery(id).await?.0))
}

pub(super) async fn attempts(Caller(engine): Caller, Path(id): Path<String>) -> Answer<Json<Vec<Attempt>>> {
    Ok(Json(engine.delivery(id).await?.1))
}

pub(super) async fn body(Caller(engine): Caller, Path(id): Path<String>) -> Answer<Response> {
    let body = engine.delivery_body(id).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

pub(super) async fn resend(Caller(engine): Caller, Path(id): Path<String>) -> Answer<StatusCode> {
    engine.resend_delivery(id).await?;
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn cancel(Caller(engine): Caller, Path(id): Path<String>) -> Answer<StatusCode> {
    engine.cancel_delivery(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
