//! What is on its way to receivers, and what may go next.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use threadyard_core::{
    ids::LeaseId,
    time::Timestamp,
    webhook_pace::WebhookPace,
    webhooks::{ClaimDeliveries, ClaimedDelivery, LeftAlone, OWN_APP, origin},
};

use crate::{
    origins::{Contact, Health, Origins},
    role::Reach,
};

/// A lease is so much longer than any exchange takes, so that it only ends when its holder died.
pub(crate) const SPARE: Duration = Duration::from_secs(15);

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
    reach: Reach,
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
    pub(crate) fn new(pace: &WebhookPace, reach: Reach) -> Self {
        let state = InFlight { all: 0, bytes: 0, retries: 0, origins: Origins::new(pace.at_once_to_one) };
        let WebhookPace { at_once, at_once_to_one, total, .. } = *pace;
        Self { at_once, at_once_to_one, lease: total + SPARE, reach, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, InFlight> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may be taken now. Retries have half of the room, so that they can't keep what is new from its first attempt.
    pub(crate) fn claim(&self, lease_id: LeaseId, from: String, now: Timestamp) -> ClaimDeliveries {
        let mut state = self.state();
        state.origins.forget(now);
        let bytes = BYTES.saturating_sub(state.bytes);
        let (per_origin, rooms) = self.rooms(&state.origins, now);
        ClaimDeliveries {
            lease_id,
            limit: if bytes == 0 { 0 } else { self.at_once - state.all },
            bytes,
            retries: (self.at_once / 2).max(1).saturating_sub(state.retries),
            per_origin,
            rooms,
            from,
            now,
            until: now + self.lease,
        }
    }

    /// How many may be taken for an origin, and for those that have another number.
    fn rooms(&self, origins: &Origins, now: Timestamp) -> (u32, BTreeMap<String, u32>) {
        if self.reach == Reach::OwnApp {
            return (0, BTreeMap::from([(OWN_APP.to_owned(), origins.room(OWN_APP, now))]));
        }
        let mut rooms = origins.rooms(now);
        if self.reach == Reach::Others {
            rooms.insert(OWN_APP.to_owned(), 0);
        }
        (self.at_once_to_one, rooms)
    }

    /// Whether anything at this origin, or at those behind it, is to be sent from here.
    pub(crate) fn goes_on_at(&self, origin: &str) -> bool {
        self.reach != Reach::OwnApp || origin <= OWN_APP
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_own_application_is_told_by_who_has_it() {
        let now = Timestamp(0);
        for (reach, own, others) in [(Reach::All, 8, 8), (Reach::Others, 0, 8), (Reach::OwnApp, 8, 0)] {
            let outbox = Outbox::new(&WebhookPace::production(), reach);
            let claim = outbox.claim(LeaseId(Uuid::nil()), String::new(), now);
            let room = |origin: &str| claim.rooms.get(origin).copied().unwrap_or(claim.per_origin);
            assert_eq!((room(OWN_APP), room("https://a.example")), (own, others), "{reach:?}");
            assert_eq!(outbox.goes_on_at("https://a.example"), others > 0);
            assert!(outbox.goes_on_at(""), "what comes first is looked at by everybody");
        }
    }
}
