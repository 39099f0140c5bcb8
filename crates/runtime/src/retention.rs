//! What `langgraph.json` says of how long things are kept: `checkpointer.ttl` and `store.ttl`, with times in minutes.

use std::time::Duration;

use serde::Deserialize;
use threadyard_core::{checkpoints::PruneStrategy, items::ItemTtl, json::Value, retention::ThreadTtl};

use crate::project::document::{Wrong, read};

/// What the configuration says of sweeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepChoice {
    /// The time between two sweeps.
    pub every: Option<Duration>,
    /// How many are treated at once.
    pub limit: Option<u32>,
}

/// `checkpointer.ttl`.
#[derive(Deserialize)]
struct CheckpointerTtl {
    #[serde(default)]
    strategy: Option<PruneStrategy>,
    #[serde(default)]
    default_ttl: Option<f64>,
    #[serde(default)]
    sweep_interval_minutes: Option<f64>,
    #[serde(default)]
    sweep_limit: Option<u32>,
}

/// `store.ttl`.
#[derive(Deserialize)]
struct StoreTtl {
    #[serde(default)]
    default_ttl: Option<f64>,
    #[serde(default)]
    refresh_on_read: Option<bool>,
    #[serde(default)]
    sweep_interval_minutes: Option<f64>,
}

/// How long threads are kept.
pub(crate) fn threads(
    ttl: Option<&Value>,
    unknown: &mut Vec<String>,
) -> Result<(Option<ThreadTtl>, SweepChoice), Wrong> {
    let Some(ttl) = ttl else { return Ok((None, SweepChoice::default())) };
    let ttl: CheckpointerTtl = read("checkpointer.ttl", ttl, unknown)?;
    let kept = minutes("checkpointer.ttl.default_ttl", ttl.default_ttl)?;
    let strategy = ttl.strategy.unwrap_or(PruneStrategy::Delete);
    let every = interval("checkpointer.ttl.sweep_interval_minutes", ttl.sweep_interval_minutes)?;
    if ttl.sweep_limit == Some(0) {
        return Err(Wrong::new("checkpointer.ttl.sweep_limit", "must be above zero"));
    }
    Ok((kept.map(|ttl| ThreadTtl { strategy, ttl }), SweepChoice { every, limit: ttl.sweep_limit }))
}

/// How long store items are kept.
pub(crate) fn items(ttl: Option<&Value>, unknown: &mut Vec<String>) -> Result<(ItemTtl, SweepChoice), Wrong> {
    let Some(ttl) = ttl else { return Ok((ItemTtl::default(), SweepChoice::default())) };
    let ttl: StoreTtl = read("store.ttl", ttl, unknown)?;
    let every = interval("store.ttl.sweep_interval_minutes", ttl.sweep_interval_minutes)?;
    let default = minutes("store.ttl.default_ttl", ttl.default_ttl)?;
    let refresh_on_read = ttl.refresh_on_read.unwrap_or(ItemTtl::default().refresh_on_read);
    Ok((ItemTtl { default, refresh_on_read }, SweepChoice { every, limit: None }))
}

/// The time between two sweeps.
fn interval(key: &str, given: Option<f64>) -> Result<Option<Duration>, Wrong> {
    let every = minutes(key, given)?;
    if every.is_some_and(|every| every.is_zero()) {
        return Err(Wrong::new(key, "must be above zero"));
    }
    Ok(every)
}

fn minutes(key: &str, minutes: Option<f64>) -> Result<Option<Duration>, Wrong> {
    let duration = |minutes: f64| {
        let duration = Duration::try_from_secs_f64(minutes * 60.0);
        duration.map_err(|_| Wrong::new(key, format!("{minutes} must be a number of minutes")))
    };
    minutes.map(duration).transpose()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_makes_no_sense_is_named() {
        for (ttl, key) in [
            (json!({ "sweep_limit": 0 }), "sweep_limit"),
            (json!({ "sweep_limit": -1 }), "sweep_limit"),
            (json!({ "sweep_limit": "all" }), "sweep_limit"),
            (json!({ "sweep_interval_minutes": 0, "sweep_limit": 1 }), "sweep_interval_minutes"),
            (json!({ "sweep_interval_minutes": -1 }), "sweep_interval_minutes"),
            (json!({ "default_ttl": -1 }), "default_ttl"),
            (json!({ "strategy": "forget" }), "strategy"),
        ] {
            let wrong = threads(Some(&ttl), &mut Vec::new()).unwrap_err();
            assert_eq!(wrong.key, format!("checkpointer.ttl.{key}"), "{ttl}");
        }
        let wrong = items(Some(&json!({ "sweep_interval_minutes": 0 })), &mut Vec::new()).unwrap_err();
        assert_eq!(wrong.key, "store.ttl.sweep_interval_minutes");
    }
}
