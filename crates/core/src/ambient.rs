//! The only sources of time and randomness, passed in so that tests control both.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use uuid::Uuid;

use crate::time::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// Makes identifiers.
pub trait Ids: Send + Sync {
    /// A UUID that sorts by the time it was made (version 7), for things that are listed in order.
    fn ordered(&self) -> Uuid;
    /// A UUID without meaning (version 4).
    fn random(&self) -> Uuid;
}

/// Where a component takes time and ids from.
#[derive(Clone)]
pub struct Ambient {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl Ambient {
    /// The clock and the randomness of this machine.
    pub fn system() -> Self {
        Self::new(Arc::new(System), Arc::new(System))
    }

    /// Another clock and other ids, for tests.
    pub fn new(clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { clock, ids }
    }

    /// The same, by another clock that this one differs from by `offset`.
    #[must_use]
    pub fn corrected(self, offset: Arc<ClockOffset>) -> Self {
        Self { clock: Arc::new(Corrected { clock: self.clock, offset }), ids: self.ids }
    }

    /// The present moment.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A UUID that sorts by time.
    pub fn ordered(&self) -> Uuid {
        self.ids.ordered()
    }

    /// A random UUID.
    pub fn random(&self) -> Uuid {
        self.ids.random()
    }
}

/// By how many microseconds this machine's clock is behind the one that several servers agree on.
#[derive(Debug, Default)]
pub struct ClockOffset(AtomicI64);

impl ClockOffset {
    /// Takes note of a new measurement.
    pub fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::Relaxed);
    }
}

struct Corrected {
    clock: Arc<dyn Clock>,
    offset: Arc<ClockOffset>,
}

impl Clock for Corrected {
    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now().0.saturating_add(self.offset.0.load(Ordering::Relaxed)))
    }
}

struct System;

#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
impl Clock for System {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_microsecond())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
impl Ids for System {
    fn ordered(&self) -> Uuid {
        Uuid::now_v7()
    }

    fn random(&self) -> Uuid {
        Uuid::new_v4()
    }
}
