//! What is counted of runs.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use threadyard_core::runs::{EndStatus, GivenBack, Run};

use super::times;

pub(crate) struct RunMetrics {
    time: Family<Ended, Histogram>,
    wait: Histogram,
    given_back: Family<Back, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Back {
    why: &'static str,
}

impl RunMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (time, wait) = (Family::new_with_constructor(times as fn() -> Histogram), times());
        let metrics = Self { time, wait, given_back: Family::default() };
        let (time, help) = (metrics.time.clone(), "From the beginning of a run's first attempt to its end");
        registry.register_with_unit("run_duration", help, Unit::Seconds, time);
        let (wait, help) = (metrics.wait.clone(), "From the request for a run to the beginning of its first attempt");
        registry.register_with_unit("run_wait", help, Unit::Seconds, wait);
        let help = "Attempts that another one had to go on for";
        registry.register("run_attempts_given_back", help, metrics.given_back.clone());
        metrics
    }

    /// An attempt begins.
    pub(crate) fn begun(&self, run: &Run) {
        if let (1, Some(started)) = (run.attempt, run.started_at) {
            self.wait.observe(started.since(run.created_at).as_secs_f64());
        }
    }

    /// A run has ended here.
    pub(crate) fn ended(&self, status: EndStatus, took: Option<Duration>) {
        let Some(took) = took else { return };
        self.time.get_or_create(&Ended { status: status.as_str() }).observe(took.as_secs_f64());
    }

    /// An attempt has ended, and another one goes on.
    pub(crate) fn given_back(&self, why: GivenBack) {
        let why = match why {
            GivenBack::Failed => "failed",
            GivenBack::Blameless => "blameless",
            GivenBack::SharedLoss => "shared_loss",
        };
        self.given_back.get_or_create(&Back { why }).inc();
    }
}

#[cfg(test)]
mod tests {
    use threadyard_core::{
        ids::{RunId, ThreadId},
        testkit::new_run,
        time::Timestamp,
    };
    use uuid::Uuid;

    use super::*;
    use crate::metrics::assert_shows;

    #[test]
    fn runs_are_counted_by_their_ends_and_waits_by_first_attempts() {
        let mut registry = Registry::default();
        let metrics = RunMetrics::register(&mut registry);
        let mut run = new_run(RunId(Uuid::nil()), ThreadId(Uuid::nil()), Timestamp(0)).run;
        for (attempt, seconds) in [(1, 3), (2, 60)] {
            (run.attempt, run.started_at) = (attempt, Some(Timestamp(0) + Duration::from_secs(seconds)));
            metrics.begun(&run);
        }
        metrics.ended(EndStatus::Error, Some(Duration::from_secs(2)));
        metrics.ended(EndStatus::Success, Some(Duration::from_secs(1)));
        // It never began.
        metrics.ended(EndStatus::Interrupted, None);
        for why in [GivenBack::Failed, GivenBack::Blameless, GivenBack::Blameless, GivenBack::SharedLoss] {
            metrics.given_back(why);
        }
        let lines = [
            "run_wait_seconds_sum 3.0",
            "run_wait_seconds_count 1",
            r#"run_duration_seconds_sum{status="error"} 2.0"#,
            r#"run_duration_seconds_count{status="success"} 1"#,
            r#"run_attempts_given_back_total{why="failed"} 1"#,
            r#"run_attempts_given_back_total{why="blameless"} 2"#,
            r#"run_attempts_given_back_total{why="shared_loss"} 1"#,
        ];
        assert_shows(&registry, &lines);
    }
}
