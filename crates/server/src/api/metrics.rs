//! `/metrics`: how the server fares, for Prometheus, or as JSON.

use std::sync::Arc;

use axum::{
    Extension, Json,
    http::{HeaderMap, header},
    response::IntoResponse,
};
use prometheus_client::encoding::text::encode_eof;
use serde::Deserialize;
use serde_json::json;

use super::{
    caller::Caller,
    error::Answer,
    extract::{Query, invalid},
    http_metrics::HttpMetrics,
};

#[derive(Deserialize)]
pub(super) struct Format {
    format: Option<String>,
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn get(
    Caller(engine): Caller,
    Extension(http): Extension<Arc<HttpMetrics>>,
    Query(format): Query<Format>,
    headers: HeaderMap,
) -> Answer {
    match format.format.as_deref() {
        None | Some("prometheus") => {
            let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let kind = if accept.contains("application/openmetrics-text") { OPEN_METRICS } else { PLAIN };
            let mut text = String::new();
            http.write(&mut text);
            engine.write_metrics(&mut text).await?;
            // Writing to a text can't fail.
            let _ = encode_eof(&mut text);
            Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
        }
        Some("json") => {
            let queue = engine.queue_stats().await?;
            let queue = json!({
                "n_pending": queue.pending,
                "n_running": queue.running,
                "pending_runs_wait_time_max_secs": queue.longest_wait.as_secs_f64(),
                "pending_runs_wait_time_med_secs": queue.median_wait.as_secs_f64(),
            });
            Ok(Json(json!({ "queue": queue })).into_response())
        }
        Some(other) => Err(invalid(format!("format: `{other}` must be prometheus or json"))),
    }
}
