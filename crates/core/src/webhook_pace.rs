//! How webhooks are sent: how much at once, how long one may take, and when it is tried again.

use std::time::Duration;

/// What the operator allows the sender.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookPace {
    /// The waits between attempts, of which there is one more. The first attempt is made at once.
    pub waits: Vec<Duration>,
    /// By how much of itself a wait is lengthened at most, so that receivers that come back are not overrun.
    pub jitter: f64,
    /// How long making a connection may take.
    pub connect: Duration,
    /// How long a whole exchange may take.
    pub total: Duration,
    /// How many are on their way at once.
    pub at_once: u32,
    /// How many of them to one receiver.
    pub at_once_to_one: u32,
}

impl WebhookPace {
    /// Eleven waits that cover more than three days.
    pub fn production() -> Self {
        Self {
            waits: [Duration::from_secs(2), Duration::from_secs(10), Duration::from_mins(1)]
                .into_iter()
                .chain(LATER)
                .collect(),
            jitter: 0.2,
            connect: Duration::from_secs(5),
            total: Duration::from_secs(30),
            at_once: 256,
            at_once_to_one: 8,
        }
    }

    /// The same with shorter waits before, for whoever looks on while a receiver is written.
    pub fn development() -> Self {
        let first =
            [Duration::from_millis(1_500), Duration::from_secs(3), Duration::from_secs(10), Duration::from_mins(1)];
        Self { waits: first.into_iter().chain(LATER).collect(), ..Self::production() }
    }

    /// How long a delivery may wait, which is longer than all attempts take one after the other: behind a receiver that
    /// can't be reached it waits for its turn.
    pub fn deadline(&self) -> Duration {
        let waits: Duration = self.waits.iter().sum();
        waits.mul_f64(1.0 + self.jitter) + SPARE
    }

    /// How long to wait after attempt number `attempt` failed, or `None` to give up. `spread`, between 0 and 1, chooses
    /// how much jitter is added.
    pub fn wait(&self, attempt: u32, spread: f64) -> Option<Duration> {
        let base = self.waits.get(attempt.checked_sub(1)? as usize)?;
        let most = base.mul_f64(self.jitter).min(MOST_JITTER);
        Some(*base + most.mul_f64(spread.clamp(0.0, 1.0)))
    }
}

/// Long waits are spread by no more.
const MOST_JITTER: Duration = Duration::from_mins(15);

/// What is added for taking turns.
const SPARE: Duration = Duration::from_hours(24);

/// The later waits of every pace.
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
    fn the_usual_pace_has_eleven_waits_and_only_grows() {
        let (production, development) = (WebhookPace::production(), WebhookPace::development());
        assert_eq!(production.waits.len(), 11);
        assert!(production.waits.is_sorted());
        assert_eq!(production.waits.iter().sum::<Duration>().as_secs(), 272_172);
        assert_eq!(production.wait(1, 1.0), Some(Duration::from_millis(2_400)));
        assert_eq!(production.wait(11, 1.0), Some(Duration::from_mins(24 * 60 + 15)));
        assert_eq!(production.wait(0, 0.0), None);
        assert_eq!(development.wait(1, 0.0), Some(Duration::from_millis(1_500)));
        assert_eq!(development.wait(12, 0.0), Some(Duration::from_hours(24)));
        assert_eq!(development.wait(13, 0.0), None);
    }
}
