//! What is on its way to receivers, and what may go next.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use threadyard_core::{
    ids::LeaseId,
    time::Timestamp,
    webhook_pace::WebhookPace,
    webhooks::{ClaimDeliveries, ClaimedDelivery, LeftAlone, origin},
};

use crate::origins::{Contact, Health, Origins};

/// A lease is so much longer than any exchange takes, so that it only ends when its holder died.
const SPARE: Duration = Duration::from_secs(15);

/// So long may bodies be in all that are on their way; the one that passes it is still sent.
const BYTES: usize = 128 << 20;

/// The room that an attempt takes.
pub(crate) struct Taken {
    origin: String,
    bytes: usize,
    is_retry: bool,
}

/// The deliveries on their way, and what is known of receivers.
pub(crate) struct Outbox {
    at_once: u32,
    at_once_to_one: u32,
    lease: Duration,
    state: Mutex<InFlight>,
}

struct InFlight {
    all: u32,
    /// How long the bodies are that are on their way.
    bytes: usize,
    retries: u32,
    origins: Origins,
}

impl Outbox {
    /// Nothing is on its way, and nothing known.
    pub(crate) fn new(pace: &WebhookPace) -> Self {
        let state = InFlight { all: 0, bytes: 0, retries: 0, origins: Origins::new(pace.at_once_to_one) };
        let WebhookPace { at_once, at_once_to_one, total, .. } = *pace;
        Self { at_once, at_once_to_one, lease: total + SPARE, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, InFlight> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may be taken now. Retries have half of the room, so that they can't keep what is new from its first attempt.
    pub(crate) fn claim(&self, lease_id: LeaseId, from: String, now: Timestamp) -> ClaimDeliveries {
        let mut state = self.state();
        state.origins.forget(now);
        let bytes = BYTES.saturating_sub(state.bytes);
        ClaimDeliveries {
            lease_id,
            limit: if bytes == 0 { 0 } else { self.at_once - state.all },
            bytes,
            retries: (self.at_once / 2).max(1).saturating_sub(state.retries),
            per_origin: self.at_once_to_one,
            rooms: state.origins.rooms(now),
            from,
            now,
            until: now + self.lease,
        }
    }

    /// Whether a delivery to a URL could go now.
    pub(crate) fn has_room(&self, url: &str, now: Timestamp) -> bool {
        let state = self.state();
        state.all < self.at_once
            && state.bytes < BYTES
            && origin(url).is_some_and(|origin| state.origins.room(&origin, now) > 0)
    }

    /// An attempt begins.
    pub(crate) fn begin(&self, delivery: &ClaimedDelivery) -> Taken {
        let mut state = self.state();
        state.all += 1;
        state.bytes += delivery.body.len();
        state.retries += u32::from(delivery.attempt > 1);
        state.origins.begin(&delivery.origin);
        Taken { origin: delivery.origin.clone(), bytes: delivery.body.len(), is_retry: delivery.attempt > 1 }
    }

    /// An attempt has ended.
    pub(crate) fn end(&self, taken: &Taken, contact: Contact, now: Timestamp) {
        let mut state = self.state();
        state.all -= 1;
        state.bytes -= taken.bytes;
        state.retries -= u32::from(taken.is_retry);
        state.origins.end(&taken.origin, contact, now);
    }

    /// When the next receiver may be sent to again that is left alone now.
    pub(crate) fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        self.state().origins.next_opening(now)
    }

    /// Leaves receivers alone that asked for it before the last start.
    pub(crate) fn leave_alone(&self, asked: Vec<LeftAlone>) {
        let origins = &mut self.state().origins;
        for LeftAlone { origin, not_before } in asked {
            origins.leave_alone(origin, not_before);
        }
    }

    /// What is known of receivers, by their origins.
    pub(crate) fn health(&self) -> Vec<(String, Health)> {
        self.state().origins.health()
    }

    /// Lets the next delivery to a receiver go at once, though it is left alone.
    pub(crate) fn open(&self, origin: &str) {
        self.state().origins.open(origin);
    }
}
