//! When a webhook is tried again.

use std::time::Duration;

/// The waits between attempts. The first attempt is made at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySchedule {
    first: &'static [Duration],
}

impl RetrySchedule {
    /// Eleven waits that cover more than three days.
    pub const PRODUCTION: Self =
        Self { first: &[Duration::from_secs(2), Duration::from_secs(10), Duration::from_mins(1)] };
    /// The same with shorter ones before, for whoever looks on while a receiver is written.
    pub const DEVELOPMENT: Self = Self {
        first: &[Duration::from_millis(1_500), Duration::from_secs(3), Duration::from_secs(10), Duration::from_mins(1)],
    };

    /// How long to wait after attempt number `attempt` failed, or `None` to give up. `spread`, between 0 and 1, lengthens
    /// the wait by up to a fifth so that receivers that come back are not overrun.
    pub fn wait(self, attempt: u32, spread: f64) -> Option<Duration> {
        let base = self.first.iter().chain(&LATER).nth(attempt.checked_sub(1)? as usize)?;
        Some(base.mul_f64(1.0 + 0.2 * spread.clamp(0.0, 1.0)))
    }
}

/// The waits of every schedule.
const LATER: [Duration; 8] = [
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_has_eleven_waits_and_only_grows() {
        let waits: Vec<_> = (1..).map_while(|attempt| RetrySchedule::PRODUCTION.wait(attempt, 0.0)).collect();
        assert_eq!(waits.len(), 11);
        assert!(waits.is_sorted());
        assert_eq!(waits.iter().sum::<Duration>().as_secs(), 272_172);
        assert_eq!(RetrySchedule::PRODUCTION.wait(1, 1.0), Some(Duration::from_millis(2_400)));
        assert_eq!(RetrySchedule::PRODUCTION.wait(0, 0.0), None);
        assert_eq!(RetrySchedule::DEVELOPMENT.wait(1, 0.0), Some(Duration::from_millis(1_500)));
        assert_eq!(RetrySchedule::DEVELOPMENT.wait(12, 0.0), Some(Duration::from_hours(24)));
        assert_eq!(RetrySchedule::DEVELOPMENT.wait(13, 0.0), None);
    }
}
