//! Sends webhook deliveries, and tries again until the receiver has them.

use std::{sync::Arc, time::Duration};

use threadyard_core::{
    bus::Topic,
    ids::LeaseId,
    time::Timestamp,
    webhooks::{AttemptResult, ClaimDeliveries, ClaimedDelivery, NextStep, retry_wait},
};
use tokio::sync::Semaphore;

use crate::{Engine, webhook_client::Sent};

/// How many deliveries are on their way at once.
const CONCURRENCY: usize = 64;
/// Longer than any exchange takes, so that a lease only ends when its holder died.
const LEASE: Duration = Duration::from_secs(45);

pub(super) async fn run(engine: Engine) {
    let slots = Arc::new(Semaphore::new(CONCURRENCY));
    while !engine.stopping.is_cancelled() {
        let wake = engine.bus.woken(Topic::Deliveries);
        let due = tick(&engine, &slots).await;
        if !super::wait(&engine, wake, due).await {
            return;
        }
    }
}

async fn tick(engine: &Engine, slots: &Arc<Semaphore>) -> Option<Timestamp> {
    let free = u32::try_from(slots.available_permits()).unwrap_or(u32::MAX);
    if free == 0 {
        return None;
    }
    let now = engine.ambient.now();
    let lease_id = LeaseId(engine.ambient.random());
    let claimed =
        match engine.storage.claim_deliveries(ClaimDeliveries { lease_id, limit: free, now, until: now + LEASE }).await
        {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(%error, "webhook deliveries could not be claimed; trying again");
                return None;
            }
        };
    for delivery in claimed.deliveries {
        let Ok(permit) = slots.clone().try_acquire_owned() else { break };
        let engine = engine.clone();
        engine.tasks.clone().spawn(async move {
            attempt(&engine, delivery).await;
            drop(permit);
            engine.bus.wake(Topic::Deliveries);
        });
    }
    claimed.next_due
}

async fn attempt(engine: &Engine, delivery: ClaimedDelivery) {
    engine.settings.faults.reach("delivery.claimed");
    let sent = engine.webhooks.send(&delivery, engine.ambient.now().as_millis() / 1_000).await;
    engine.settings.faults.reach("delivery.sent");
    let at = engine.ambient.now();
    let (status, failure, next) = judge(&sent, delivery.attempt, at, spread(engine));
    match next {
        NextStep::Delivered => tracing::info!(run_id = %delivery.run_id, webhook_id = delivery.id, "webhook delivered"),
        NextStep::RetryAt(again) => {
            tracing::warn!(run_id = %delivery.run_id, webhook_id = delivery.id, attempt = delivery.attempt, status, failure, %again, "webhook not delivered yet");
        }
        NextStep::Failed => {
            tracing::error!(run_id = %delivery.run_id, webhook_id = delivery.id, attempt = delivery.attempt, status, failure, "webhook given up");
        }
    }
    let failure = failure.map(str::to_owned);
    let result = AttemptResult { id: delivery.id, lease_id: delivery.lease_id, at, status, failure, next };
    if let Err(error) = engine.storage.record_attempt(result).await {
        tracing::error!(run_id = %delivery.run_id, %error, "what came of a webhook attempt could not be stored; it is sent again");
    }
}

/// Only 2xx means that the receiver has it, and only 410 that it never wants it.
fn judge(sent: &Sent, attempt: u32, at: Timestamp, spread: f64) -> (Option<u16>, Option<&'static str>, NextStep) {
    let again = || retry_wait(attempt, spread).map_or(NextStep::Failed, |wait| NextStep::RetryAt(at + wait));
    match *sent {
        Sent::Answer(status @ 200..=299) => (Some(status), None, NextStep::Delivered),
        Sent::Answer(410) => (Some(410), Some("the receiver is gone for good"), NextStep::Failed),
        Sent::Answer(status) => (Some(status), Some("the receiver did not accept it"), again()),
        Sent::Failure(why) => (None, Some(why), again()),
        Sent::Refused => (None, Some("the URL may not be called"), NextStep::Failed),
    }
}

/// A number between 0 and 1 that differs from call to call.
fn spread(engine: &Engine) -> f64 {
    f64::from(u16::from_le_bytes([engine.ambient.random().as_bytes()[0], engine.ambient.random().as_bytes()[1]]))
        / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_decide_what_follows() {
        let at = Timestamp(0);
        assert_eq!(judge(&Sent::Answer(204), 1, at, 0.0).2, NextStep::Delivered);
        assert_eq!(judge(&Sent::Answer(404), 1, at, 0.0).2, NextStep::RetryAt(Timestamp(2_000_000)));
        assert_eq!(judge(&Sent::Answer(302), 2, at, 0.0).2, NextStep::RetryAt(Timestamp(10_000_000)));
        assert_eq!(judge(&Sent::Answer(410), 1, at, 0.0).2, NextStep::Failed);
        assert_eq!(judge(&Sent::Failure("x"), 12, at, 0.0).2, NextStep::Failed);
    }
}
