//! Traces over OTLP, where the variables of OpenTelemetry name somebody to send them to.

use std::time::Duration;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio::runtime::Handle;

use super::setting;

/// How long a receiver of spans may take to answer, unless somebody says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last spans may take when the server stops.
const AT_THE_END: Duration = Duration::from_secs(2);

/// What sends the spans of this process.
pub(crate) struct Exporting(SdkTracerProvider);

impl Exporting {
    /// Begins, if somebody wants to have them.
    pub(crate) fn start() -> anyhow::Result<Option<Self>> {
        let Some(exporter) = exporter()? else { return Ok(None) };
        let resource = Resource::builder();
        let resource = match setting("OTEL_SERVICE_NAME") {
            Some(_) => resource,
            None if setting("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|it| it.contains("service.name=")) => resource,
            None => resource.with_service_name("threadyard"),
        };
        Ok(Some(Self(
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build(),
        )))
    }

    pub(crate) fn tracer(&self) -> SdkTracer {
        self.0.tracer("threadyard")
    }

    /// Sends what is left.
    pub(crate) async fn stop(self) {
        let sent = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(AT_THE_END)).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::warn!("the last spans could not be sent");
        }
    }
}

/// What sends spans to whom the environment names, if it does.
pub(crate) fn exporter() -> anyhow::Result<Option<SpanExporter>> {
    if !traces_are_wanted() {
        return Ok(None);
    }
    let exporter = setting("OTEL_TRACES_EXPORTER").unwrap_or_else(|| "otlp".into());
    ensure!(exporter == "otlp", "OTEL_TRACES_EXPORTER: `{exporter}` must be otlp or none");
    let protocol = of_traces("PROTOCOL").unwrap_or_else(|| "http/protobuf".into());
    ensure!(
        protocol == "http/protobuf",
        "OTEL_EXPORTER_OTLP_PROTOCOL: `{protocol}` must be http/protobuf, which collectors take at port 4318"
    );
    let compression = of_traces("COMPRESSION").unwrap_or_else(|| "none".into());
    ensure!(compression == "none", "OTEL_EXPORTER_OTLP_COMPRESSION: `{compression}` must be none");
    let exporter = SpanExporter::builder().with_http().with_http_client(Sender::new()?).build();
    exporter.map(Some).context("traces can't be sent where OTEL_EXPORTER_OTLP_ENDPOINT says")
}

/// Whether somebody is named to send them to, and nothing says otherwise.
pub(crate) fn traces_are_wanted() -> bool {
    let disabled = setting("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let none = setting("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter == "none");
    of_traces("ENDPOINT").is_some() && !none && !disabled
}

/// A setting of the exporter: that for traces, or else that for everything.
fn of_traces(name: &str) -> Option<String> {
    setting(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}")).or_else(|| setting(&format!("OTEL_EXPORTER_OTLP_{name}")))
}

/// Sends from the exporter's own thread, on which nothing asynchronous can happen.
#[derive(Debug)]
struct Sender {
    http: reqwest::Client,
    runtime: Handle,
}

impl Sender {
    fn new() -> anyhow::Result<Self> {
        let timeout =
            of_traces("TIMEOUT").and_then(|millis| millis.parse().ok()).map_or(PATIENCE, Duration::from_millis);
        let http = reqwest::Client::builder()
            .user_agent(concat!("threadyard/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(timeout);
        Ok(Self { http: http.build().context("no HTTP client for traces")?, runtime: Handle::current() })
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let answer = http.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                headers.extend(answer.headers().clone());
            }
            Ok::<_, HttpError>(response.body(answer.bytes().await?)?)
        });
        sent.await?
    }
}
