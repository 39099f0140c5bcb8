//! What is counted of the engine's work, as Prometheus reads it.

mod runs;
mod standing;
mod webhooks;

use prometheus_client::{
    encoding::text::encode_registry,
    metrics::histogram::{Histogram, exponential_buckets},
    registry::Registry,
};
use threadyard_core::runs::QueueStats;

pub(crate) use self::webhooks::AttemptEnd;
use self::{runs::RunMetrics, standing::Standing, webhooks::WebhookMetrics};
use crate::{Engine, Result};

/// What all names begin with.
pub const PREFIX: &str = "threadyard";

/// The counters, and the registry that shows them.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) runs: RunMetrics,
    pub(crate) webhooks: WebhookMetrics,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let runs = RunMetrics::register(&mut registry);
        let webhooks = WebhookMetrics::register(&mut registry);
        Self { registry, runs, webhooks }
    }
}

/// A histogram from a millisecond to minutes.
fn times() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 10))
}

impl Engine {
    /// Writes the metrics in the text format of OpenMetrics, but for what marks their end.
    pub async fn write_metrics(&self, text: &mut String) -> Result<()> {
        let standing = Standing {
            queue: self.queue_stats().await?,
            destinations: self.known_destinations().await?,
            workers: self.runtime.workers(),
            connections: self.storage.connections(),
            now: self.ambient.now(),
        };
        // Writing to a text can't fail.
        let _ = encode_registry(text, &self.metrics.registry);
        let _ = encode_registry(text, &standing.registry());
        Ok(())
    }

    /// How the queue of runs stands.
    pub async fn queue_stats(&self) -> Result<QueueStats> {
        Ok(self.storage.queue_stats(self.ambient.now()).await?)
    }
}

#[cfg(test)]
fn assert_shows(registry: &Registry, lines: &[&str]) {
    let mut shown = String::new();
    // Writing to a text can't fail.
    let _ = encode_registry(&mut shown, registry);
    for line in lines {
        assert!(shown.lines().any(|it| it == *line), "{line} is not in\n{shown}");
    }
}
