//! Room for the runs that are executed here.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for so many runs.
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    /// Whether runs may be waiting for room: then nobody takes some who comes later.
    runs_wait: AtomicBool,
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
        Self { free: Arc::new(Semaphore::new(count as usize)), runs_wait: AtomicBool::new(false) }
    }

    /// Takes the room for a new run, unless others wait for it.
    pub(crate) fn take_one(&self) -> Option<Taken> {
        if self.runs_wait.load(Ordering::SeqCst) {
            return None;
        }
        self.free.clone().try_acquire_owned().ok().map(Taken)
    }

    /// Takes room for runs that wait; half of it, since new runs come while the queue is looked at. Where there is none,
    /// whoever gives some back hears that it is wanted.
    pub(crate) fn take_half(&self) -> Option<Taken> {
        loop {
            let free = self.free.available_permits();
            if free == 0 {
                self.set_runs_wait(true);
                // Given back before that, it would have been given back to nobody.
                if self.free.available_permits() == 0 {
                    return None;
                }
                continue;
            }
            let count = u32::try_from(free.div_ceil(2)).unwrap_or(u32::MAX);
            if let Ok(taken) = self.free.clone().try_acquire_many_owned(count) {
                return Some(Taken(taken));
            }
        }
    }

    /// Notes whether more runs may be waiting than there was room for.
    pub(crate) fn set_runs_wait(&self, wait: bool) {
        self.runs_wait.store(wait, Ordering::SeqCst);
    }

    /// Gives room back. Says whether runs may be waiting for it.
    pub(crate) fn give_back(&self, taken: Taken) -> bool {
        drop(taken);
        self.runs_wait.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_goes_to_the_runs_that_wait_for_it() {
        let slots = Slots::new(3);
        let mut half = slots.take_half().unwrap();
        let first = half.one().unwrap();
        assert_eq!((half.count(), first.count()), (1, 1));
        let new = slots.take_one().unwrap();
        assert!(slots.take_one().is_none() && slots.take_half().is_none());
        assert!(slots.give_back(first));
        assert!(slots.take_one().is_none(), "it came later");
        drop(slots.take_half().unwrap());
        slots.set_runs_wait(false);
        assert!(!slots.give_back(new), "nobody was refused since");
        drop(half);
        assert!(slots.take_one().is_some());
    }
}
