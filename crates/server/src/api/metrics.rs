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
            let mut text = String::new();
            http.write(&mut text);
            engine.write_metrics(&mut text).await?;
            if !accept.contains("application/openmetrics-text") {
                return Ok(([(header::CONTENT_TYPE, PLAIN)], plain(&text)).into_response());
            }
            // Writing to a text can't fail.
            let _ = encode_eof(&mut text);
            Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
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

/// The same for readers of the older format, which describes what is counted by the whole name and knows neither `info` nor
/// units.
fn plain(text: &str) -> String {
    let (mut plain, mut help) = (String::with_capacity(text.len()), None);
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(about)) => help = Some((name, about)),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (end, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    kind => ("", kind),
                };
                if let Some((_, about)) = help.take().filter(|(helped, _)| *helped == name) {
                    plain.extend(["# HELP ", name, end, " ", about, "\n"]);
                }
                plain.extend(["# TYPE ", name, end, " ", kind, "\n"]);
            }
            (Some("#"), ..) => {}
            _ => plain.extend([line, "\n"]),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_has_whole_names_and_no_units() {
        let text = "# HELP a_seconds How long it takes.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
                    a_seconds_bucket{le=\"+Inf\",route=\"/a b\"} 0\n# HELP b How many.\n# TYPE b counter\nb_total 1\n\
                    # HELP c Which.\n# TYPE c info\nc_info{v=\"#\"} 1\n# TYPE d gauge\nd 2\n";
        let expected = "# HELP a_seconds How long it takes.\n# TYPE a_seconds histogram\n\
                        a_seconds_bucket{le=\"+Inf\",route=\"/a b\"} 0\n# HELP b_total How many.\n\
                        # TYPE b_total counter\nb_total 1\n# HELP c_info Which.\n# TYPE c_info gauge\n\
                        c_info{v=\"#\"} 1\n# TYPE d gauge\nd 2\n";
        assert_eq!(plain(text), expected);
    }
}
