//! Sends webhook deliveries, and tries again until the receiver has them.

use std::time::Duration;

use crate::{
    Engine,
    metrics::AttemptEnd,
    origins::Contact,
    outbox::SPARE,
    signing::Message,
    webhook_client::{Answer, BLOCKED, RetryAfter, Sent, UNREADABLE},
    webhook_traces,
};
use threadyard_core::{
    bus::Topic,
    deliveries::Trigger,
    ids::LeaseId,
    time::Timestamp,
    webhook_pace::WebhookPace,
    webhooks::{AttemptResult, ClaimedDeliveries, ClaimedDelivery, NextStep},
};
use tokio::time::timeout;

/// A receiver that is overloaded and does not say for how long.
const OVERLOADED: Duration = Duration::from_mins(1);
/// So long may it take to decrypt a delivery, which its lease has room for besides the exchange.
const DECRYPT_WITHIN: Duration = Duration::from_secs(10);
const _: () = assert!(DECRYPT_WITHIN.as_secs() < SPARE.as_secs());
/// A receiver can't put a delivery off for longer.
const LONGEST_ASKED: Duration = Duration::from_hours(24);

pub(super) async fn run(engine: Engine) {
    remember(&engine).await;
    let mut from = String::new();
    while !engine.stopping.is_cancelled() {
        let wake = engine.bus.woken(Topic::Deliveries);
        let due = round(&engine, &mut from).await;
        if !super::wait(&engine, wake, due).await {
            return;
        }
    }
}

/// Learns again what receivers asked for before the last start.
async fn remember(engine: &Engine) {
    match engine.storage.left_alone(engine.ambient.now()).await {
        Ok(asked) => engine.outbox.leave_alone(asked),
        Err(error) => tracing::error!(%error, "which receivers asked to be left alone could not be read"),
    }
}

/// Takes what is due until there is no room, or every origin was looked at. Returns when the next one becomes due.
async fn round(engine: &Engine, from: &mut String) -> Option<Timestamp> {
    let mut from_the_beginning = from.is_empty();
    loop {
        let now = engine.ambient.now();
        let claim = engine.outbox.claim(LeaseId(engine.ambient.random()), std::mem::take(from), now);
        if claim.limit == 0 {
            *from = claim.from;
            return None;
        }
        let room = claim.limit as usize;
        let claimed = match engine.storage.claim_deliveries(claim).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::error!(%error, "webhook deliveries could not be claimed; trying again");
                return None;
            }
        };
        let has_room = claimed.deliveries.len() < room && !engine.stopping.is_cancelled();
        let more = claimed.more.clone().filter(|origin| engine.outbox.goes_on_at(origin));
        let due = begin(engine, claimed, now);
        match more {
            Some(more) => *from = more,
            None if from_the_beginning => return due,
            None => from_the_beginning = true,
        }
        if !has_room {
            return due;
        }
    }
}

/// Sends what was claimed. Returns when more becomes due.
fn begin(engine: &Engine, claimed: ClaimedDeliveries, now: Timestamp) -> Option<Timestamp> {
    engine.metrics.webhooks.lost(claimed.lost);
    for delivery in claimed.deliveries {
        let engine = engine.clone();
        let taken = engine.outbox.begin(&delivery);
        engine.tasks.clone().spawn(async move {
            let (contact, at) = attempt(&engine, delivery).await;
            engine.outbox.end(&taken, contact, at);
            engine.wake(Topic::Deliveries);
        });
    }
    // What is held back by its origin goes on when an attempt ends, or when the origin is open again.
    [claimed.next_due, engine.outbox.next_opening(now)].into_iter().flatten().min()
}

/// Tries once. Returns how that went, and when.
async fn attempt(engine: &Engine, mut delivery: ClaimedDelivery) -> (Contact, Timestamp) {
    let mut span = webhook_traces::begin(&engine.traces, &mut delivery);
    engine.settings.faults.reach("delivery.claimed");
    let opened = opened(engine, &mut delivery).await;
    let now = engine.ambient.now();
    let sent = match opened {
        Ok(()) => send(engine, &delivery, now).await,
        Err(sent) => sent,
    };
    engine.settings.faults.reach("delivery.sent");
    let at = engine.ambient.now();
    webhook_traces::ended(&mut span, &sent);
    let contact = contact(&sent, at);
    let (status, failure, next) = judge(&sent, &delivery, at, (&engine.settings.webhook_pace, spread(engine)));
    let result = AttemptResult {
        id: delivery.id.clone(),
        lease_id: delivery.lease_id,
        attempt: delivery.attempt,
        at,
        status,
        failure: failure.map(str::to_owned),
        next,
        not_before: match contact {
            Contact::Asked(wait) => Some(at + wait),
            _ => None,
        },
    };
    match engine.storage.record_attempt(result).await {
        Ok(true) => {
            let blocked = matches!(sent, Sent::Refused | Sent::Blocked);
            engine
                .metrics
                .webhooks
                .attempted(&delivery, &AttemptEnd { at, took: at.since(now), status, next, blocked });
            tell(&delivery, (status, failure), next);
        }
        Ok(false) => {
            tracing::info!(run_id = %delivery.run_id, webhook_id = delivery.id, "a webhook was stopped or taken over while it was on its way");
        }
        Err(error) => {
            tracing::error!(run_id = %delivery.run_id, %error, "what came of a webhook attempt could not be stored; it is sent again");
        }
    }
    (contact, at)
}

/// Has the project's own handlers decrypt what is to be sent.
async fn opened(engine: &Engine, delivery: &mut ClaimedDelivery) -> Result<(), Sent> {
    let opening = timeout(DECRYPT_WITHIN, engine.storage.open_delivery(delivery.clone())).await;
    let error = match opening {
        Ok(Ok(opened)) => {
            *delivery = opened;
            return Ok(());
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it took longer than {} s", DECRYPT_WITHIN.as_secs()),
    };
    tracing::error!(run_id = %delivery.run_id, webhook_id = delivery.id, error, "a delivery can't be decrypted");
    Err(Sent::Unreadable)
}

async fn send(engine: &Engine, delivery: &ClaimedDelivery, now: Timestamp) -> Sent {
    let timestamp = now.as_millis() / 1_000;
    let message = Message { id: &delivery.id, timestamp, body: &delivery.body };
    let signature = engine.signer.signature(&delivery.origin, message, now);
    engine.webhooks.send(delivery, timestamp, &signature).await
}

fn tell(delivery: &ClaimedDelivery, (status, failure): (Option<u16>, Option<&str>), next: NextStep) {
    match next {
        NextStep::Delivered => tracing::info!(run_id = %delivery.run_id, webhook_id = delivery.id, "webhook delivered"),
        NextStep::RetryAt(again) => {
            tracing::warn!(run_id = %delivery.run_id, webhook_id = delivery.id, attempt = delivery.attempt, status, failure, %again, "webhook not delivered yet");
        }
        NextStep::AsBefore => {
            tracing::warn!(run_id = %delivery.run_id, webhook_id = delivery.id, attempt = delivery.attempt, status, failure, "webhook not delivered when somebody had it sent again");
        }
        NextStep::Failed => {
            tracing::error!(run_id = %delivery.run_id, webhook_id = delivery.id, attempt = delivery.attempt, status, failure, "webhook given up");
        }
    }
}

/// Only 2xx means that the receiver has it, and only 410 and its own word that it never wants it.
fn judge(
    sent: &Sent,
    delivery: &ClaimedDelivery,
    at: Timestamp,
    (pace, spread): (&WebhookPace, f64),
) -> (Option<u16>, Option<&'static str>, NextStep) {
    let (status, failure, asked) = match sent {
        Sent::Answer(Answer { status: status @ 200..=299, .. }) => return (Some(*status), None, NextStep::Delivered),
        Sent::Answer(Answer { status: 410, .. }) => (Some(410), "the receiver is gone for good", None),
        Sent::Answer(Answer { status, aborts: true, .. }) => (Some(*status), "the receiver never wants it", None),
        Sent::Answer(answer) => (Some(answer.status), "the receiver did not accept it", Some(asked_wait(answer, at))),
        Sent::Failure(why) => (None, *why, Some(Duration::ZERO)),
        Sent::Blocked => (None, BLOCKED, Some(Duration::ZERO)),
        Sent::Unreadable => (None, UNREADABLE, Some(Duration::ZERO)),
        Sent::Refused => (None, "the URL may not be called", None),
    };
    let again = asked.zip(pace.wait(delivery.scheduled, spread));
    let next = match again {
        _ if delivery.trigger == Trigger::Resend => NextStep::AsBefore,
        Some((asked, scheduled)) => NextStep::RetryAt(at + asked.max(scheduled)),
        None => NextStep::Failed,
    };
    (status, Some(failure), next)
}

/// What an attempt tells about the receiver. Whatever it answers, it is there.
fn contact(sent: &Sent, at: Timestamp) -> Contact {
    match sent {
        Sent::Answer(answer) if answer.retry_after.is_some() => match asked_wait(answer, at) {
            Duration::ZERO => Contact::Reached,
            wait => Contact::Asked(wait),
        },
        // Overloaded or not: who does not ask is sent the next one.
        Sent::Answer(_) | Sent::Refused => Contact::Reached,
        Sent::Unreadable => Contact::Untried,
        Sent::Failure(_) | Sent::Blocked => Contact::Missed,
    }
}

/// How long the receiver wants to be left alone.
fn asked_wait(answer: &Answer, at: Timestamp) -> Duration {
    let asked = match (answer.status, answer.retry_after) {
        (429 | 503, Some(RetryAfter::Wait(wait))) => wait,
        (429 | 503, Some(RetryAfter::At(seconds))) => {
            let now = u64::try_from(at.as_millis() / 1_000).unwrap_or_default();
            Duration::from_secs(seconds.saturating_sub(now))
        }
        (429 | 502 | 504, None) => OVERLOADED,
        _ => Duration::ZERO,
    };
    asked.min(LONGEST_ASKED)
}

/// A number between 0 and 1 that differs from call to call.
fn spread(engine: &Engine) -> f64 {
    f64::from(u16::from_le_bytes([engine.ambient.random().as_bytes()[0], engine.ambient.random().as_bytes()[1]]))
        / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use threadyard_core::{ids::RunId, webhook_policy::WebhookHeaders};
    use uuid::Uuid;

    use super::*;

    const AT: Timestamp = Timestamp(1_767_000_000_000_000);

    fn judged(sent: &Sent, delivery: &ClaimedDelivery) -> NextStep {
        judge(sent, delivery, AT, (&WebhookPace::production(), 0.0)).2
    }

    fn delivery(scheduled: u32, trigger: Trigger) -> ClaimedDelivery {
        ClaimedDelivery {
            id: "msg_1_1".into(),
            run_id: RunId(Uuid::nil()),
            event: "run.success".into(),
            created_at: AT,
            url: String::new(),
            origin: String::new(),
            headers: WebhookHeaders::default(),
            maker: None,
            body: bytes::Bytes::new(),
            attempt: scheduled,
            scheduled,
            trigger,
            lease_id: LeaseId(Uuid::nil()),
        }
    }

    fn next(sent: &Sent, scheduled: u32) -> NextStep {
        judged(sent, &delivery(scheduled, Trigger::Schedule))
    }

    fn answer(status: u16) -> Sent {
        Sent::Answer(Answer { status, ..Answer::default() })
    }

    fn asking(status: u16, retry_after: RetryAfter) -> Sent {
        Sent::Answer(Answer { status, retry_after: Some(retry_after), aborts: false })
    }

    fn after(seconds: u64) -> NextStep {
        NextStep::RetryAt(AT + Duration::from_secs(seconds))
    }

    #[test]
    fn answers_decide_what_follows() {
        assert_eq!(next(&answer(204), 1), NextStep::Delivered);
        assert_eq!(next(&answer(404), 1), after(2));
        assert_eq!(next(&answer(302), 2), after(10));
        assert_eq!(next(&answer(410), 1), NextStep::Failed);
        assert_eq!(next(&Sent::Answer(Answer { status: 500, retry_after: None, aborts: true }), 1), NextStep::Failed);
        assert_eq!(next(&Sent::Failure("x"), 1), after(2));
        assert_eq!(next(&Sent::Failure("x"), 12), NextStep::Failed);
        assert_eq!(next(&Sent::Refused, 1), NextStep::Failed);
    }

    #[test]
    fn a_receiver_can_ask_to_be_left_alone() {
        let now = u64::try_from(AT.as_millis() / 1_000).unwrap();
        for (sent, expected) in [
            (asking(429, RetryAfter::Wait(Duration::from_hours(1))), after(3_600)),
            (asking(503, RetryAfter::Wait(Duration::ZERO)), after(2)),
            (asking(503, RetryAfter::Wait(Duration::MAX)), after(24 * 3_600)),
            (asking(503, RetryAfter::At(now + 90)), after(90)),
            (asking(503, RetryAfter::At(now - 90)), after(2)),
            (asking(500, RetryAfter::Wait(Duration::from_hours(1))), after(2)),
            (answer(429), after(60)),
            (answer(502), after(60)),
            (answer(503), after(2)),
        ] {
            assert_eq!(next(&sent, 1), expected);
        }
        assert_eq!(next(&answer(504), 5), after(1_800), "the schedule asks for more");
    }

    #[test]
    fn only_who_asks_is_left_alone_with_everything() {
        let minute = Duration::from_mins(1);
        for (sent, expected) in [
            (asking(429, RetryAfter::Wait(minute)), Contact::Asked(minute)),
            (asking(503, RetryAfter::Wait(Duration::ZERO)), Contact::Reached),
            (asking(500, RetryAfter::Wait(minute)), Contact::Reached),
            (answer(429), Contact::Reached),
            (answer(502), Contact::Reached),
            (Sent::Failure("x"), Contact::Missed),
        ] {
            assert_eq!(contact(&sent, AT), expected);
        }
    }

    #[test]
    fn a_resend_that_fails_changes_nothing() {
        for sent in [answer(500), answer(410), Sent::Failure("x")] {
            assert_eq!(judged(&sent, &delivery(12, Trigger::Resend)), NextStep::AsBefore);
        }
        assert_eq!(judged(&answer(200), &delivery(12, Trigger::Resend)), NextStep::Delivered);
    }
}
