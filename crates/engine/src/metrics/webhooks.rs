//! What is counted of webhooks. URLs and origins are no labels: they would grow without end, and may be secret.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use threadyard_core::{
    deliveries::Trigger,
    time::Timestamp,
    webhooks::{ClaimedDelivery, NextStep},
};

use super::times;

pub(crate) struct WebhookMetrics {
    settled: Family<Settled, Counter>,
    attempts: Family<Attempted, Counter>,
    attempt_time: Histogram,
    latency: Histogram,
    blocked: Counter,
    lost: Counter,
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

impl WebhookMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            settled: Family::default(),
            attempts: Family::default(),
            attempt_time: times(),
            latency: times(),
            blocked: Counter::default(),
            lost: Counter::default(),
        };
        let help = "Deliveries that receivers have, or that were given up";
        registry.register("webhook_deliveries", help, metrics.settled.clone());
        registry.register("webhook_attempts", "Attempts to deliver", metrics.attempts.clone());
        let (time, help) = (metrics.attempt_time.clone(), "How long attempts take");
        registry.register_with_unit("webhook_attempt", help, Unit::Seconds, time);
        let (time, help) = (metrics.latency.clone(), "From the end of a run to the receiver's acceptance");
        registry.register_with_unit("webhook_delivery_latency", help, Unit::Seconds, time);
        registry.register("webhook_blocked", "Attempts that the URL policy refused", metrics.blocked.clone());
        registry.register("webhook_lease_expired", "Attempts whose sender died", metrics.lost.clone());
        metrics
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
