//! Receivers of webhooks as the sender knows them: how much each is sent at once, and when it is left alone.
//!
//! A receiver that can't be reached costs one attempt at a time, in growing intervals, and what waits for it costs
//! nothing. This is knowledge of one server, which it learns again after a start, but for what receivers asked for.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::Serialize;
use threadyard_core::time::Timestamp;

/// After so many failures to reach a receiver, one after the other, only probes are sent.
const FAILURES: u32 = 5;
/// The time to the first probe; it doubles with each that fails.
const FIRST_PROBE: Duration = Duration::from_secs(30);
const LAST_PROBE: Duration = Duration::from_mins(10);
/// What is known of a receiver is forgotten when nothing has been sent to it for so long.
const FORGOTTEN: Duration = Duration::from_hours(1);

/// What came of an attempt, as far as the receiver is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contact {
    /// It answered.
    Reached,
    /// It answered that it wants to be left alone.
    Asked(Duration),
    /// It could not be reached, or did not answer.
    Missed,
    /// There was none.
    Untried,
}

/// How a receiver fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// How many deliveries are on their way to it.
    pub in_flight: u32,
    /// Whether it is sent to.
    pub breaker: Breaker,
    /// Failures to reach it since it was last reached.
    pub failures: u32,
    /// Until when it is left alone.
    pub not_before: Option<Timestamp>,
}

/// Whether a receiver is sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Breaker {
    /// As much as any.
    #[default]
    Closed,
    /// A probe at a time.
    Open,
    /// More and more again.
    Half,
}

/// All receivers that there is anything to know of.
pub(crate) struct Origins {
    /// How many deliveries are on their way to one receiver at once.
    wide: u32,
    known: HashMap<String, Origin>,
}

#[derive(Default)]
struct Origin {
    in_flight: u32,
    /// Failures to reach it since it was last reached.
    missed: u32,
    /// How much it is sent at once while it comes back; as much as any when none.
    ramp: Option<u32>,
    /// Until when it is left alone.
    not_before: Option<Timestamp>,
    /// Whether what is on its way is to find out whether it is back.
    probed: bool,
    /// When an attempt ended last.
    heard_of: Option<Timestamp>,
}

impl Origin {
    fn room(&self, wide: u32, now: Timestamp) -> u32 {
        if self.not_before.is_some_and(|moment| moment > now) {
            return 0;
        }
        let most = if self.missed >= FAILURES { 1 } else { self.ramp.unwrap_or(wide) };
        most.saturating_sub(self.in_flight)
    }

    fn is_ordinary(&self) -> bool {
        self.in_flight == 0 && self.missed == 0 && self.ramp.is_none() && self.not_before.is_none()
    }
}

impl Origins {
    /// Nothing is known of anybody, and everybody is sent so much at once.
    pub(crate) fn new(wide: u32) -> Self {
        Self { wide, known: HashMap::new() }
    }

    /// How many more may be sent to one now.
    pub(crate) fn room(&self, name: &str, now: Timestamp) -> u32 {
        self.known.get(name).map_or(self.wide, |origin| origin.room(self.wide, now))
    }

    /// The room of those that have less than the others.
    pub(crate) fn rooms(&self, now: Timestamp) -> BTreeMap<String, u32> {
        let rooms = self.known.iter().map(|(name, origin)| (name.clone(), origin.room(self.wide, now)));
        rooms.filter(|(_, room)| *room < self.wide).collect()
    }

    /// What is known of those that there is anything to know of.
    pub(crate) fn health(&self) -> Vec<(String, Health)> {
        let health = |origin: &Origin| Health {
            in_flight: origin.in_flight,
            breaker: match (origin.missed >= FAILURES, origin.ramp) {
                (true, _) => Breaker::Open,
                (false, Some(_)) => Breaker::Half,
                (false, None) => Breaker::Closed,
            },
            failures: origin.missed,
            not_before: origin.not_before,
        };
        self.known.iter().map(|(name, origin)| (name.clone(), health(origin))).collect()
    }

    /// Leaves one alone no longer; what is known of its failures stays.
    pub(crate) fn open(&mut self, name: &str) {
        if let Some(origin) = self.known.get_mut(name) {
            origin.not_before = None;
        }
    }

    /// Leaves one alone until then.
    pub(crate) fn leave_alone(&mut self, name: String, not_before: Timestamp) {
        let origin = self.known.entry(name).or_default();
        origin.not_before = origin.not_before.max(Some(not_before));
    }

    /// When the next one may be sent to again that is left alone now.
    pub(crate) fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        self.known.values().filter_map(|origin| origin.not_before.filter(|moment| *moment > now)).min()
    }

    /// Forgets those that nothing has been sent to for long: whatever waited for one would have been a probe.
    pub(crate) fn forget(&mut self, now: Timestamp) {
        self.known.retain(|_, origin| {
            let idle = origin.in_flight == 0 && origin.not_before.is_none_or(|moment| moment <= now);
            !(idle && origin.heard_of.is_none_or(|moment| moment + FORGOTTEN <= now))
        });
    }

    /// An attempt begins.
    pub(crate) fn begin(&mut self, name: &str) {
        let origin = self.known.entry(name.to_owned()).or_default();
        origin.in_flight += 1;
        origin.probed = origin.missed >= FAILURES;
    }

    /// An attempt has ended.
    pub(crate) fn end(&mut self, name: &str, contact: Contact, now: Timestamp) {
        let Some(origin) = self.known.get_mut(name) else { return };
        origin.in_flight = origin.in_flight.saturating_sub(1);
        origin.not_before = origin.not_before.filter(|moment| *moment > now);
        origin.heard_of = Some(now);
        let probed = std::mem::take(&mut origin.probed);
        match contact {
            Contact::Reached | Contact::Asked(_) => {
                let back = origin.missed >= FAILURES;
                origin.missed = 0;
                origin.ramp = match origin.ramp {
                    _ if back => Some(1),
                    Some(ramp) if ramp * 2 < self.wide => Some(ramp * 2),
                    _ => None,
                };
                if let Contact::Asked(wait) = contact {
                    origin.not_before = origin.not_before.max(Some(now + wait));
                }
            }
            Contact::Untried => {}
            // It was sent before the receiver was known to be gone, and tells nothing new.
            Contact::Missed if origin.missed >= FAILURES && !probed => {}
            Contact::Missed => {
                // One that was just coming back is gone again.
                origin.missed = if origin.ramp.take().is_some() { FAILURES } else { origin.missed + 1 };
                if origin.missed >= FAILURES {
                    let doublings = (origin.missed - FAILURES).min(16);
                    let wait = FIRST_PROBE.saturating_mul(1 << doublings).min(LAST_PROBE);
                    origin.not_before = origin.not_before.max(Some(now + wait));
                }
            }
        }
        if origin.is_ordinary() {
            self.known.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PER_ORIGIN: u32 = 8;
    const A: &str = "https://a.example";

    fn at(seconds: u64) -> Timestamp {
        Timestamp(0) + Duration::from_secs(seconds)
    }

    fn room(origins: &Origins, seconds: u64) -> u32 {
        origins.rooms(at(seconds)).get(A).copied().unwrap_or(PER_ORIGIN)
    }

    fn attempt(origins: &mut Origins, contact: Contact, seconds: u64) {
        origins.begin(A);
        origins.end(A, contact, at(seconds));
    }

    #[test]
    fn what_is_on_its_way_takes_room() {
        let mut origins = Origins::new(PER_ORIGIN);
        origins.begin(A);
        origins.begin(A);
        assert_eq!(room(&origins, 0), PER_ORIGIN - 2);
        origins.end(A, Contact::Reached, at(0));
        origins.end(A, Contact::Reached, at(0));
        assert!(origins.known.is_empty(), "there is nothing to know of it");
    }

    #[test]
    fn what_was_not_sent_tells_nothing_of_its_receiver() {
        let mut origins = Origins::new(PER_ORIGIN);
        for _ in 0..5 {
            attempt(&mut origins, Contact::Missed, 0);
        }
        attempt(&mut origins, Contact::Untried, 30);
        assert_eq!(room(&origins, 30), 1, "the next one is the probe");
        attempt(&mut origins, Contact::Missed, 30);
        assert_eq!((room(&origins, 89), room(&origins, 90)), (0, 1), "it is gone for as long as before");
    }

    #[test]
    fn a_receiver_that_is_gone_is_probed_and_comes_back_step_by_step() {
        let mut origins = Origins::new(PER_ORIGIN);
        for _ in 0..4 {
            attempt(&mut origins, Contact::Missed, 0);
        }
        assert_eq!(room(&origins, 0), PER_ORIGIN);
        attempt(&mut origins, Contact::Missed, 0);
        assert_eq!((room(&origins, 29), room(&origins, 30)), (0, 1));
        assert_eq!(origins.next_opening(at(0)), Some(at(30)));
        attempt(&mut origins, Contact::Missed, 30);
        assert_eq!((room(&origins, 89), room(&origins, 90)), (0, 1));
        for _ in 0..10 {
            attempt(&mut origins, Contact::Missed, 90);
        }
        assert_eq!((room(&origins, 689), room(&origins, 690)), (0, 1), "ten minutes at most");
        for expected in [1, 2, 4, PER_ORIGIN] {
            attempt(&mut origins, Contact::Reached, 700);
            assert_eq!(room(&origins, 700), expected);
        }
        assert!(origins.known.is_empty());
    }

    #[test]
    fn failures_at_the_same_time_are_one() {
        let mut origins = Origins::new(PER_ORIGIN);
        for _ in 0..PER_ORIGIN {
            origins.begin(A);
        }
        for _ in 0..PER_ORIGIN {
            origins.end(A, Contact::Missed, at(30));
        }
        assert_eq!(
            (room(&origins, 59), room(&origins, 60)),
            (0, 1),
            "the first probe comes as soon as after one failure"
        );
        attempt(&mut origins, Contact::Missed, 60);
        assert_eq!((room(&origins, 119), room(&origins, 120)), (0, 1));
        attempt(&mut origins, Contact::Reached, 120);
        attempt(&mut origins, Contact::Missed, 121);
        assert_eq!((room(&origins, 150), room(&origins, 151)), (0, 1), "one that was coming back is gone again");
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let mut origins = Origins::new(PER_ORIGIN);
        for _ in 0..5 {
            attempt(&mut origins, Contact::Missed, 0);
        }
        origins.begin("https://b.example");
        origins.forget(at(3_599));
        assert_eq!(origins.known.len(), 2);
        origins.forget(at(3_600));
        assert_eq!(origins.known.keys().collect::<Vec<_>>(), ["https://b.example"], "something is on its way to it");
    }

    #[test]
    fn a_receiver_that_asks_is_left_alone() {
        let mut origins = Origins::new(PER_ORIGIN);
        attempt(&mut origins, Contact::Asked(Duration::from_mins(1)), 0);
        attempt(&mut origins, Contact::Asked(Duration::from_secs(10)), 1);
        assert_eq!((room(&origins, 59), room(&origins, 60)), (0, PER_ORIGIN));
        attempt(&mut origins, Contact::Reached, 61);
        assert!(origins.known.is_empty());
    }

    #[test]
    fn one_answer_ends_a_row_of_failures() {
        let mut origins = Origins::new(PER_ORIGIN);
        for _ in 0..3 {
            for _ in 0..4 {
                attempt(&mut origins, Contact::Missed, 0);
            }
            attempt(&mut origins, Contact::Reached, 0);
        }
        assert_eq!(room(&origins, 0), PER_ORIGIN);
    }
}
