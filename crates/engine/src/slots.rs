//! Room for the runs that are executed here.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for so many runs.
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    /// Whether runs may be waiting for room.
    wanted: AtomicBool,
}

/// Room for some runs, which is free again when this is dropped.
pub(crate) struct Taken(OwnedSemaphorePermit);

impl Taken {
    /// For how many runs.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.0.num_permits()).unwrap_or(u32::MAX)
    }

    /// Splits off the room for one run.
    pub(crate) fn one(&mut self) -> Option<Self> {
        self.0.split(1).map(Self)
    }
}

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        Self { free: Arc::new(Semaphore::new(count as usize)), wanted: AtomicBool::new(false) }
    }

    /// Takes the room for one run.
    pub(crate) fn take_one(&self) -> Option<Taken> {
        self.free.clone().try_acquire_owned().ok().map(Taken)
    }

    /// Takes all room, or has whoever gives some back know that it is wanted.
    pub(crate) fn take_all(&self) -> Option<Taken> {
        loop {
            let free = self.free.available_permits();
            if free == 0 {
                self.wanted.store(true, Ordering::SeqCst);
                // Given back before that, it would have been given back to nobody.
                if self.free.available_permits() == 0 {
                    return None;
                }
                continue;
            }
            let count = u32::try_from(free).unwrap_or(u32::MAX);
            if let Ok(taken) = self.free.clone().try_acquire_many_owned(count) {
                return Some(Taken(taken));
            }
        }
    }

    /// Says that more runs may be waiting than there was room for.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::SeqCst);
    }

    /// Gives room back. Says whether it is wanted.
    pub(crate) fn give_back(&self, taken: Taken) -> bool {
        drop(taken);
        self.wanted.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_was_wanted_is_given_back_to_whoever_wants_it() {
        let slots = Slots::new(2);
        let mut all = slots.take_all().unwrap();
        let first = all.one().unwrap();
        assert_eq!((all.count(), first.count()), (1, 1));
        assert!(slots.take_one().is_none() && slots.take_all().is_none());
        assert!(slots.give_back(first));
        let again = slots.take_one().unwrap();
        assert!(!slots.give_back(again), "nobody was refused since");
        drop(all);
        assert_eq!(slots.take_all().unwrap().count(), 2);
    }
}
