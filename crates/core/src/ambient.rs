//! The only sources of time and randomness, passed in so that tests control both.

use std::sync::Arc;

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
