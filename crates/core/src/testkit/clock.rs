//! A clock that moves when told to, and ids that count.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use uuid::Uuid;

use crate::{
    ambient::{Ambient, Clock, Ids},
    time::Timestamp,
};

/// Stands still until moved.
#[derive(Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Stands at a plausible moment.
    pub fn start() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_767_323_045_000_000)))
    }

    /// Moves on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// Counts from one.
#[derive(Default)]
pub struct CountingIds(AtomicU64);

impl Ids for CountingIds {
    fn ordered(&self) -> Uuid {
        Uuid::from_u64_pair(0x7000, self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn random(&self) -> Uuid {
        self.ordered()
    }
}

/// A clock that stands still and ids that count.
pub fn ambient() -> (Ambient, Arc<ManualClock>) {
    let clock = ManualClock::start();
    (Ambient::new(clock.clone(), Arc::new(CountingIds::default())), clock)
}
