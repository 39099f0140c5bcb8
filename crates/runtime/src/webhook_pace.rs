//! What `langgraph.json` says of how webhooks are sent: `webhooks.retry`, `webhooks.timeouts` and `webhooks.limits`.

use std::{ops::RangeInclusive, time::Duration};

use serde::Deserialize;
use threadyard_core::webhook_pace::WebhookPace;

use crate::project::document::Wrong;

/// A schedule of more waits, or of longer ones, is a mistake.
const MOST_WAITS: usize = 100;
const LONGEST_WAIT: Duration = Duration::from_hours(24 * 30);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_mins(10);
const ROOM: RangeInclusive<u32> = 1..=10_000;

/// What is said of it; the rest is as usual.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PaceRules {
    waits: Option<Vec<Duration>>,
    jitter: Option<f64>,
    connect: Option<Duration>,
    total: Option<Duration>,
    at_once: Option<u32>,
    at_once_to_one: Option<u32>,
}

/// `webhooks.retry`: the waits between attempts, such as `["2s", "10m"]`, and a share of them that is added by chance.
#[derive(Default, Deserialize)]
pub(crate) struct Retry {
    schedule: Option<Vec<String>>,
    jitter: Option<f64>,
}

/// `webhooks.timeouts`: texts such as `5s`.
#[derive(Default, Deserialize)]
pub(crate) struct Timeouts {
    connect: Option<String>,
    total: Option<String>,
}

/// `webhooks.limits`: how many deliveries are on their way at once.
#[derive(Default, Deserialize)]
pub(crate) struct Limits {
    max_concurrency: Option<u32>,
    per_destination_concurrency: Option<u32>,
}

impl PaceRules {
    pub(crate) fn read(retry: &Retry, timeouts: &Timeouts, limits: &Limits) -> Result<Self, Wrong> {
        let waits = retry.schedule.as_ref().map(|waits| schedule(waits)).transpose()?;
        if retry.jitter.is_some_and(|jitter| !(0.0..=1.0).contains(&jitter)) {
            return Err(Wrong::new("webhooks.retry.jitter", "must be between 0 and 1"));
        }
        Ok(Self {
            waits,
            jitter: retry.jitter,
            connect: timeout("connect", timeouts.connect.as_deref())?,
            total: timeout("total", timeouts.total.as_deref())?,
            at_once: room("max_concurrency", limits.max_concurrency)?,
            at_once_to_one: room("per_destination_concurrency", limits.per_destination_concurrency)?,
        })
    }

    /// How webhooks are sent, by these rules on top of what is usual.
    pub(crate) fn pace(&self, usual: &WebhookPace) -> WebhookPace {
        let total = self.total.unwrap_or(usual.total);
        WebhookPace {
            waits: self.waits.clone().unwrap_or_else(|| usual.waits.clone()),
            jitter: self.jitter.unwrap_or(usual.jitter),
            connect: self.connect.unwrap_or(usual.connect).min(total),
            total,
            at_once: self.at_once.unwrap_or(usual.at_once),
            at_once_to_one: self.at_once_to_one.unwrap_or(usual.at_once_to_one),
        }
    }
}

fn schedule(waits: &[String]) -> Result<Vec<Duration>, Wrong> {
    if waits.len() > MOST_WAITS {
        return Err(Wrong::new("webhooks.retry.schedule", format!("has more than {MOST_WAITS} waits")));
    }
    let wait = |(index, text): (usize, &String)| {
        let why = match humantime::parse_duration(text) {
            Ok(wait) if wait <= LONGEST_WAIT => return Ok(wait),
            Ok(_) => format!("`{text}` is more than 30 days"),
            Err(why) => format!("`{text}` is no time such as 2s or 10m: {why}"),
        };
        Err(Wrong::new(format!("webhooks.retry.schedule[{index}]"), why))
    };
    waits.iter().enumerate().map(wait).collect()
}

fn timeout(name: &str, text: Option<&str>) -> Result<Option<Duration>, Wrong> {
    let Some(text) = text else { return Ok(None) };
    let wrong = |why: String| Wrong::new(format!("webhooks.timeouts.{name}"), why);
    match humantime::parse_duration(text) {
        Ok(timeout) if TIMEOUTS.contains(&timeout) => Ok(Some(timeout)),
        Ok(_) => Err(wrong(format!("`{text}` is not between 1ms and 10m"))),
        Err(why) => Err(wrong(format!("`{text}` is no time such as 5s: {why}"))),
    }
}

fn room(name: &str, number: Option<u32>) -> Result<Option<u32>, Wrong> {
    match number {
        Some(number) if !ROOM.contains(&number) => {
            let why = format!("{number} is not between {} and {}", ROOM.start(), ROOM.end());
            Err(Wrong::new(format!("webhooks.limits.{name}"), why))
        }
        number => Ok(number),
    }
}
