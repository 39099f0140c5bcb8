//! What is on its way to receivers, and what may go next.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use threadyard_core::{
    ids::LeaseId,
    time::Timestamp,
    webhooks::{ClaimDeliveries, ClaimedDelivery, origin},
};

use crate::origins::{Contact, Health, Origins, PER_ORIGIN};

/// How many deliveries are on their way at once.
const CONCURRENCY: u32 = 256;
/// Longer than any exchange takes, so that a lease only ends when its holder died.
const LEASE: Duration = Duration::from_secs(45);

/// The deliveries on their way, and what is known of receivers.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<InFlight>,
}

#[derive(Default)]
struct InFlight {
    all: u32,
    retries: u32,
    origins: Origins,
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, InFlight> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may be taken now. Retries have half of the room, so that they can't keep what is new from its first attempt.
    pub(crate) fn claim(&self, lease_id: LeaseId, now: Timestamp) -> ClaimDeliveries {
        let state = self.state();
        ClaimDeliveries {
            lease_id,
            limit: CONCURRENCY - state.all,
            retries: (CONCURRENCY / 2).saturating_sub(state.retries),
            per_origin: PER_ORIGIN,
            rooms: state.origins.rooms(now),
            now,
            until: now + LEASE,
        }
    }

    /// Whether a delivery to a URL could go now.
    pub(crate) fn has_room(&self, url: &str, now: Timestamp) -> bool {
        let state = self.state();
        state.all < CONCURRENCY && origin(url).is_some_and(|origin| state.origins.room(&origin, now) > 0)
    }

    /// An attempt begins.
    pub(crate) fn begin(&self, delivery: &ClaimedDelivery) {
        let mut state = self.state();
        state.all += 1;
        state.retries += u32::from(delivery.attempt > 1);
        state.origins.begin(&delivery.origin);
    }

    /// An attempt has ended.
    pub(crate) fn end(&self, origin: &str, attempt: u32, contact: Contact, now: Timestamp) {
        let mut state = self.state();
        state.all -= 1;
        state.retries -= u32::from(attempt > 1);
        state.origins.end(origin, contact, now);
    }

    /// When the next receiver may be sent to again that is left alone now.
    pub(crate) fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        self.state().origins.next_opening(now)
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
