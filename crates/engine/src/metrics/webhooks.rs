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

#[cfg(test)]
mod tests {
    use threadyard_core::{
        ids::{LeaseId, RunId},
        webhook_policy::WebhookHeaders,
    };
    use uuid::Uuid;

    use super::*;
    use crate::metrics::assert_shows;

    fn delivery(trigger: Trigger) -> ClaimedDelivery {
        ClaimedDelivery {
            id: "msg_1_1".into(),
            run_id: RunId(Uuid::nil()),
            event: "run.success".into(),
            created_at: Timestamp(0),
            url: String::new(),
            origin: String::new(),
            headers: WebhookHeaders::default(),
            maker: None,
            body: bytes::Bytes::new(),
            attempt: 1,
            scheduled: 1,
            trigger,
            lease_id: LeaseId(Uuid::nil()),
        }
    }

    #[test]
    fn attempts_are_counted_by_what_came_of_them() {
        let mut registry = Registry::default();
        let metrics = WebhookMetrics::register(&mut registry);
        let at = Timestamp(0) + Duration::from_secs(4);
        for (trigger, next, status, blocked) in [
            (Trigger::Schedule, NextStep::RetryAt(at), Some(503), false),
            (Trigger::Schedule, NextStep::RetryAt(at), None, true),
            (Trigger::Schedule, NextStep::Delivered, Some(204), false),
            (Trigger::Resend, NextStep::Delivered, Some(200), false),
            (Trigger::Resend, NextStep::AsBefore, Some(404), false),
            (Trigger::Schedule, NextStep::Failed, Some(410), false),
        ] {
            let end = AttemptEnd { at, took: Duration::from_secs(1), status, next, blocked };
            metrics.attempted(&delivery(trigger), &end);
        }
        metrics.given_up("run.error".into());
        metrics.lost(2);
        let lines = [
            r#"webhook_attempts_total{outcome="retry",code_class="5xx"} 1"#,
            r#"webhook_attempts_total{outcome="retry",code_class="none"} 1"#,
            r#"webhook_attempts_total{outcome="delivered",code_class="2xx"} 2"#,
            r#"webhook_attempts_total{outcome="refused",code_class="4xx"} 1"#,
            r#"webhook_attempts_total{outcome="failed",code_class="4xx"} 1"#,
            r#"webhook_deliveries_total{event="run.success",state="delivered"} 2"#,
            r#"webhook_deliveries_total{event="run.success",state="failed"} 1"#,
            r#"webhook_deliveries_total{event="run.error",state="failed"} 1"#,
            "webhook_attempt_seconds_count 6",
            // What somebody had sent again is not among them.
            "webhook_delivery_latency_seconds_sum 4.0",
            "webhook_delivery_latency_seconds_count 1",
            "webhook_blocked_total 1",
            "webhook_lease_expired_total 2",
        ];
        assert_shows(&registry, &lines);
    }
}
