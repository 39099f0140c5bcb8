//! Receivers as operators see them, trying one, and having what was not delivered sent again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::json;
use threadyard_core::{
    bus::Topic,
    deliveries::{DeliveryQuery, Recovery, Trigger},
    ids::{LeaseId, RecoveryId, RunId},
    time::Timestamp,
    webhook_policy::WebhookHeaders,
    webhooks::{ClaimedDelivery, origin},
};
use uuid::Uuid;

use crate::{
    Engine, Error, Result,
    origins::Health,
    signing::Message,
    webhook_client::{BLOCKED, Sent, UNREADABLE, check_webhook_url},
};

/// A receiver, and what waits for it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Destination {
    /// Scheme, host and port.
    pub origin: String,
    /// How many deliveries are to be sent to it.
    pub pending: u64,
    /// When the first of them is due.
    pub next_attempt_at: Option<Timestamp>,
    /// How it fares.
    #[serde(flatten)]
    pub health: Health,
}

/// What came of a delivery that only was to try a receiver.
#[derive(Clone, Debug, Serialize)]
pub struct TestSent {
    /// The header `webhook-id` that it had.
    pub webhook_id: String,
    /// The status of the answer.
    pub status: Option<u16>,
    /// What went wrong.
    pub failure: Option<&'static str>,
    /// How long it took.
    pub took_ms: u64,
}

impl Engine {
    /// The receivers that something waits for or that there is anything to know of, by their origins.
    pub async fn destinations(&self) -> Result<Vec<Destination>> {
        self.operators_only()?;
        self.known_destinations().await
    }

    /// The same, for what shows no more of them than numbers.
    pub(crate) async fn known_destinations(&self) -> Result<Vec<Destination>> {
        let mut all: BTreeMap<String, Destination> = BTreeMap::new();
        for waiting in self.storage.waiting().await? {
            let destination = all.entry(waiting.origin).or_default();
            (destination.pending, destination.next_attempt_at) = (waiting.deliveries, Some(waiting.due));
        }
        for (origin, health) in self.outbox.health() {
            all.entry(origin).or_default().health = health;
        }
        Ok(all.into_iter().map(|(origin, destination)| Destination { origin, ..destination }).collect())
    }

    /// Has a receiver that is left alone tried now.
    pub fn probe_destination(&self, url: &str) -> Result<()> {
        self.operators_only()?;
        let origin = origin(url).ok_or_else(|| Error::Invalid("origin: must be a URL such as https://a.com".into()))?;
        self.outbox.open(&origin);
        self.wake(Topic::Deliveries);
        Ok(())
    }

    /// Sends a receiver a sample, signed and judged as any delivery, and tells what it answers. Nothing is kept of it.
    pub async fn test_webhook(&self, url: &str, event: &str) -> Result<TestSent> {
        self.operators_only()?;
        self.may_send()?;
        check_webhook_url(url, &self.settings.webhook_policy)?;
        let now = self.ambient.now();
        let (run, thread) = (Uuid::nil(), Uuid::nil());
        let body = json!({
            "type": event, "test": true, "run_id": run, "thread_id": thread, "status": "success", "metadata": {},
            "kwargs": {}, "values": {}, "created_at": now, "updated_at": now, "run_ended_at": now, "webhook_sent_at": now,
        });
        let delivery = ClaimedDelivery {
            id: format!("msg_test_{}", self.ambient.random().simple()),
            run_id: RunId(run),
            event: event.into(),
            created_at: now,
            url: url.into(),
            origin: origin(url).unwrap_or_default(),
            headers: WebhookHeaders::default(),
            maker: None,
            body: body.to_string().into(),
            attempt: 1,
            scheduled: 1,
            trigger: Trigger::Resend,
            lease_id: LeaseId(Uuid::nil()),
        };
        let timestamp = now.as_millis() / 1_000;
        let message = Message { id: &delivery.id, timestamp, body: &delivery.body };
        let signature = self.signer.signature(&delivery.origin, message, now);
        let begin = Instant::now();
        let (status, failure) = match self.webhooks.send(&delivery, timestamp, &signature).await {
            Sent::Answer(answer) => (Some(answer.status), None),
            Sent::Failure(why) => (None, Some(why)),
            Sent::Unreadable => (None, Some(UNREADABLE)),
            Sent::Blocked => (None, Some(BLOCKED)),
            Sent::Refused => (None, Some("the URL may not be called")),
        };
        let took_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(TestSent { webhook_id: delivery.id, status, failure, took_ms })
    }

    /// Begins to have everything sent again that matches and was given up, cancelled or skipped.
    pub async fn recover_deliveries(&self, query: DeliveryQuery) -> Result<Recovery> {
        self.operators_only()?;
        self.may_send()?;
        let id = RecoveryId(self.ambient.ordered());
        self.storage.begin_recovery(id, query, self.ambient.now()).await?;
        self.wake(Topic::Recoveries);
        self.recovery(id).await
    }

    /// How far a recovery is.
    pub async fn recovery(&self, id: RecoveryId) -> Result<Recovery> {
        self.operators_only()?;
        self.storage.recovery(id).await?.ok_or(Error::NotFound("recovery"))
    }

    /// Nothing is sent while webhooks are disabled.
    pub(crate) fn may_send(&self) -> Result<()> {
        if self.settings.webhooks_enabled {
            return Ok(());
        }
        Err(Error::Conflict("webhooks are disabled; see http.disable_webhooks of langgraph.json".into()))
    }
}

/// How many deliveries a recovery treats in one transaction.
pub(crate) const AT_ONCE: u32 = 500;
/// Between two of those, others may write.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);
