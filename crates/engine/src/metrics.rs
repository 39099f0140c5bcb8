//! What is counted of the server's work, as Prometheus reads it. URLs and origins are no labels: they would grow without
//! end, and may be secret.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use threadyard_core::{
    deliveries::Trigger,
    runs::QueueStats,
    time::Timestamp,
    webhooks::{ClaimedDelivery, NextStep},
};

use crate::{Breaker, Destination, Engine, Result};

/// The counters, and the registry that shows them.
pub(crate) struct Metrics {
    registry: Registry,
    settled: Family<Settled, Counter>,
    attempts: Family<Attempted, Counter>,
    attempt_time: Histogram,
    latency: Histogram,
    blocked: Counter,
    lost: Counter,
    runs: Family<InQueue, Gauge>,
    longest_wait: Gauge<f64, std::sync::atomic::AtomicU64>,
    waiting: Gauge,
    overdue: Gauge<f64, std::sync::atomic::AtomicU64>,
    open: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Settled {
    event: String,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Attempted {
    outcome: &'static str,
    code_class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InQueue {
    status: &'static str,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let times = || Histogram::new(exponential_buckets(0.001, 4.0, 10));
        let mut metrics = Self {
            registry: Registry::with_prefix("threadyard"),
            settled: Family::default(),
            attempts: Family::default(),
            attempt_time: times(),
            latency: times(),
            blocked: Counter::default(),
            lost: Counter::default(),
            runs: Family::default(),
            longest_wait: Gauge::default(),
            waiting: Gauge::default(),
            overdue: Gauge::default(),
            open: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let Self { registry, .. } = self;
        registry.register(
            "webhook_deliveries",
            "Deliveries that receivers have, or that were given up",
            self.settled.clone(),
        );
        registry.register("webhook_attempts", "Attempts to deliver", self.attempts.clone());
        let (time, help) = (self.attempt_time.clone(), "How long attempts take");
        registry.register_with_unit("webhook_attempt", help, Unit::Seconds, time);
        let (time, help) = (self.latency.clone(), "From the end of a run to the receiver's acceptance");
        registry.register_with_unit("webhook_delivery_latency", help, Unit::Seconds, time);
        registry.register("webhook_blocked", "Attempts that the URL policy refused", self.blocked.clone());
        registry.register("webhook_lease_expired", "Attempts whose sender died", self.lost.clone());
        registry.register("webhook_queue_depth", "Deliveries that are to be sent", self.waiting.clone());
        let (late, help) = (self.overdue.clone(), "How long the oldest delivery has been due that is not parked");
        registry.register_with_unit("webhook_oldest_due", help, Unit::Seconds, late);
        registry.register("webhook_breaker_open", "Receivers that only get probes", self.open.clone());
        registry.register("runs_in_queue", "Runs that have not ended", self.runs.clone());
        let (wait, help) = (self.longest_wait.clone(), "How long the oldest pending run has waited");
        registry.register_with_unit("run_oldest_pending", help, Unit::Seconds, wait);
    }

    /// Senders died in the middle of so many attempts.
    pub(crate) fn lost(&self, count: u64) {
        self.lost.inc_by(count);
    }

    /// A delivery was given up without a further attempt.
    pub(crate) fn given_up(&self, event: String) {
        self.settled.get_or_create(&Settled { event, state: "failed" }).inc();
    }

    /// An attempt has ended.
    pub(crate) fn attempted(&self, delivery: &ClaimedDelivery, end: &AttemptEnd) {
        let (outcome, settled) = match end.next {
            NextStep::Delivered => ("delivered", Some("delivered")),
            NextStep::RetryAt(_) => ("retry", None),
            NextStep::Failed => ("failed", Some("failed")),
            NextStep::AsBefore => ("refused", None),
        };
        self.attempts.get_or_create(&Attempted { outcome, code_class: code_class(end.status) }).inc();
        self.attempt_time.observe(end.took.as_secs_f64());
        if let Some(state) = settled {
            self.settled.get_or_create(&Settled { event: delivery.event.clone(), state }).inc();
        }
        // What somebody has sent again tells nothing of how fast the first one was.
        if end.next == NextStep::Delivered && delivery.trigger == Trigger::Schedule {
            self.latency.observe(end.at.since(delivery.created_at).as_secs_f64());
        }
        if end.blocked {
            self.blocked.inc();
        }
    }

    fn text(&self, queue: &QueueStats, destinations: &[Destination], now: Timestamp) -> String {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.runs.get_or_create(&InQueue { status: "pending" }).set(count(queue.pending));
        self.runs.get_or_create(&InQueue { status: "running" }).set(count(queue.running));
        self.longest_wait.set(queue.longest_wait.as_secs_f64());
        self.waiting.set(count(destinations.iter().map(|it| it.pending).sum()));
        let is_open = |it: &&Destination| it.health.breaker == Breaker::Open;
        self.open.set(count(destinations.iter().filter(is_open).count() as u64));
        let is_parked = |it: &&Destination| is_open(it) || it.health.not_before.is_some_and(|moment| moment > now);
        let due = destinations.iter().filter(|it| !is_parked(it)).filter_map(|it| it.next_attempt_at).min();
        self.overdue.set(due.map_or(0.0, |due| now.since(due).as_secs_f64()));
        let mut text = String::new();
        // Writing to a text can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// How an attempt ended.
pub(crate) struct AttemptEnd {
    pub(crate) at: Timestamp,
    pub(crate) took: Duration,
    pub(crate) status: Option<u16>,
    pub(crate) next: NextStep,
    /// Whether the policy refused it.
    pub(crate) blocked: bool,
}

fn code_class(status: Option<u16>) -> &'static str {
    match status {
        Some(100..=199) => "1xx",
        Some(200..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(_) => "5xx",
        None => "none",
    }
}

impl Engine {
    /// The metrics in the text format of OpenMetrics.
    pub async fn metrics(&self) -> Result<String> {
        let (queue, destinations) = (self.queue_stats().await?, self.destinations().await?);
        Ok(self.metrics.text(&queue, &destinations, self.ambient.now()))
    }

    /// How the queue of runs stands.
    pub async fn queue_stats(&self) -> Result<QueueStats> {
        Ok(self.storage.queue_stats(self.ambient.now()).await?)
    }
}
