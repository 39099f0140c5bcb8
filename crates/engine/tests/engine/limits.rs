//! Limits of runs: what waits begins when there is room, and what does not fit is refused.

use std::time::Duration;

use threadyard_core::{
    limits::{PerOwner, RunLimits},
    runs::RunStatus,
    runtime::RunEndStatus,
    testkit::run_end,
};
use threadyard_engine::{Error, ThreadChoice};

use crate::{SOON, Stage, request};

#[tokio::test]
async fn a_run_beyond_the_limit_waits_until_another_ends() {
    let stage = Stage::set_with(|settings| {
        settings.run_limits =
            RunLimits { running: PerOwner { user: Some(1), assistant: None }, pending: PerOwner::default() };
    })
    .await;
    let (first, second) = (stage.run().await.run, stage.run().await.run);
    let execution = tokio::time::timeout(SOON, stage.runtime.next_run()).await.unwrap();
    assert_eq!(execution.job.lease.run_id, first.run_id);
    let none = tokio::time::timeout(Duration::from_millis(100), stage.runtime.next_run()).await;
    assert!(none.is_err(), "two at once");
    assert_eq!(stage.engine.run(second.thread_id, second.run_id).await.unwrap().status, RunStatus::Pending);
    execution.end(run_end(RunEndStatus::Success));
    let next = tokio::time::timeout(SOON, stage.runtime.next_run()).await.unwrap();
    assert_eq!(next.job.lease.run_id, second.run_id);
}

#[tokio::test]
async fn a_run_for_which_there_is_no_place_is_refused_and_says_when_to_come_again() {
    let stage = Stage::set_with(|settings| {
        settings.concurrency = 0;
        settings.run_limits =
            RunLimits { pending: PerOwner { user: None, assistant: Some(1) }, running: PerOwner::default() };
    })
    .await;
    stage.run().await;
    let refused = stage.engine.create_run(request(), ThreadChoice::New(false)).await.err().unwrap();
    assert!(matches!(refused, Error::TooMany { retry_after, .. } if retry_after > Duration::ZERO), "{refused}");
    let refused = stage.engine.create_runs(vec![(request(), false)]).await.err().unwrap();
    assert!(matches!(refused, Error::TooMany { .. }), "{refused}");
}
