//! Limits: how many runs wait, and how many are executed at once, of one user and of one assistant.

use std::time::Duration;

use threadyard_core::{
    ids::{AssistantId, LeaseId},
    json::Object,
    limits::{Counted, PerOwner, QueueFull},
    runs::{ClaimRuns, CreatedRun, MultitaskStrategy, NewRun},
    testkit::new_run,
};
use uuid::Uuid;

use crate::{Backend, at, run, success, thread};

const NONE: PerOwner = PerOwner { user: None, assistant: None };

/// A run of this user and assistant, on a thread of its own.
fn of(n: u64, user: &str, assistant: &str, pending: PerOwner) -> NewRun {
    let mut new = new_run(run(n), thread(n), at(0));
    new.run.assistant_id = AssistantId::of_graph(assistant);
    NewRun { create_thread: Some(Object::new()), counted: Some(Counted { user: user.into(), pending }), ..new }
}

impl Backend {
    async fn refused(&self, new: NewRun) -> Option<QueueFull> {
        match self.storage.create_run(new).await.unwrap() {
            CreatedRun::Created { .. } => None,
            CreatedRun::QueueFull(full) => Some(full),
            other => panic!("{other:?}"),
        }
    }

    /// Which runs are claimed within these limits, at one second.
    async fn claimed(&self, limits: PerOwner, limit: u32) -> Vec<u64> {
        let lease_id = LeaseId(Uuid::from_u64_pair(3, 1));
        let claim = ClaimRuns { lease_id, limit, now: at(1), until: at(1) + Duration::from_secs(30) };
        let claimed = self.storage.claim_runs_within(limits, claim).await.unwrap();
        claimed.runs.iter().map(|claimed| claimed.run.run_id.0.as_u64_pair().1).collect()
    }
}

#[tokio::test]
async fn so_many_runs_of_a_user_or_an_assistant_wait_and_no_more() {
    let backend = Backend::new().await;
    let users = PerOwner { user: Some(2), assistant: None };
    assert_eq!(backend.refused(of(1, "ann", "a", users)).await, None);
    assert_eq!(backend.refused(of(2, "ann", "b", users)).await, None);
    assert_eq!(backend.refused(of(3, "ann", "c", users)).await, Some(QueueFull::User(2)));
    assert!(backend.storage.thread(thread(3)).await.unwrap().is_none(), "nothing of it is there");
    assert_eq!(backend.refused(of(4, "bob", "a", users)).await, None);
    let assistants = PerOwner { user: None, assistant: Some(2) };
    assert_eq!(backend.refused(of(5, "cleo", "a", assistants)).await, Some(QueueFull::Assistant(2)));
    assert_eq!(backend.refused(of(5, "cleo", "b", assistants)).await, None);
    // What begins no longer waits, and who is not counted is not limited.
    backend.claim(1, at(1)).await;
    assert_eq!(backend.refused(of(6, "ann", "c", users)).await, None);
    let uncounted = NewRun { counted: None, ..of(7, "ann", "c", users) };
    assert_eq!(backend.refused(uncounted).await, None);
}

#[tokio::test]
async fn a_run_that_takes_the_place_of_another_needs_no_new_one() {
    let backend = Backend::new().await;
    let limits = PerOwner { user: Some(1), assistant: Some(1) };
    assert_eq!(backend.refused(of(1, "ann", "a", limits)).await, None);
    let mut again = of(2, "ann", "a", limits);
    again.run.thread_id = thread(1);
    assert_eq!(backend.refused(again.clone()).await, Some(QueueFull::User(1)));
    again.run.multitask_strategy = MultitaskStrategy::Interrupt;
    assert_eq!(backend.refused(again).await, None);
}

#[tokio::test]
async fn a_batch_that_does_not_fit_is_refused_as_a_whole() {
    let backend = Backend::new().await;
    let limits = PerOwner { user: Some(2), assistant: None };
    let batch = |numbers: &[u64]| numbers.iter().map(|n| of(*n, "ann", "a", limits)).collect::<Vec<_>>();
    assert_eq!(backend.storage.create_runs(batch(&[1, 2, 3])).await.unwrap(), Err(QueueFull::User(2)));
    assert!(backend.storage.thread(thread(1)).await.unwrap().is_none());
    assert_eq!(backend.storage.create_runs(batch(&[1, 2])).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn so_many_are_executed_at_once_and_the_others_wait_without_holding_anybody_up() {
    let backend = Backend::new().await;
    for (n, user, assistant) in
        [(1, "ann", "a"), (2, "ann", "a"), (3, "ann", "b"), (4, "bob", "a"), (5, "bob", "b"), (6, "cleo", "c")]
    {
        assert_eq!(backend.refused(of(n, user, assistant, NONE)).await, None);
    }
    let users = PerOwner { user: Some(1), assistant: None };
    assert_eq!(backend.claimed(users, 2).await, [1, 4]);
    assert_eq!(backend.claimed(users, 2).await, [6]);
    assert!(backend.claimed(users, 9).await.is_empty());
    let both = PerOwner { user: Some(2), assistant: Some(2) };
    assert_eq!(backend.claimed(both, 9).await, [3, 5], "the second of ann's waits for its assistant");
    let more = PerOwner { user: Some(3), assistant: Some(3) };
    let uncounted = NewRun { counted: None, ..of(7, "ann", "a", NONE) };
    assert_eq!(backend.refused(uncounted).await, None);
    assert_eq!(backend.claimed(more, 9).await, [2, 7]);
}

#[tokio::test]
async fn an_assistant_without_room_holds_up_no_other_one() {
    let backend = Backend::new().await;
    for n in 1..=4 {
        assert_eq!(backend.refused(of(n, &n.to_string(), "a", NONE)).await, None);
    }
    assert_eq!(backend.refused(of(5, "ann", "b", NONE)).await, None);
    let one = PerOwner { user: None, assistant: Some(1) };
    // Fewer are claimed than wait for the first one.
    let claimed = tokio::time::timeout(Duration::from_mins(2), backend.claimed(one, 2)).await;
    assert_eq!(claimed.expect("those that wait for room are looked at again and again"), [1, 5]);
    assert!(backend.claimed(one, 2).await.is_empty());
}

#[tokio::test]
async fn a_run_that_ends_makes_room() {
    let backend = Backend::new().await;
    for n in 1..=2 {
        assert_eq!(backend.refused(of(n, "ann", "a", NONE)).await, None);
    }
    let one = PerOwner { user: Some(1), assistant: Some(1) };
    let lease_id = LeaseId(Uuid::from_u64_pair(3, 9));
    let claim = ClaimRuns { lease_id, limit: 9, now: at(1), until: at(31) };
    let claimed = backend.storage.claim_runs_within(one, claim).await.unwrap().runs.remove(0);
    assert!(backend.claimed(one, 9).await.is_empty());
    backend.storage.finish_run(claimed.lease, success(at(2))).await.unwrap();
    assert_eq!(backend.claimed(one, 9).await, [2]);
}

#[tokio::test]
async fn clocks_that_differ_change_no_order_within_a_thread() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    for (n, made) in [(1, 2), (2, 1)] {
        backend.storage.create_run(new_run(run(n), thread(1), at(made))).await.unwrap();
    }
    assert!(backend.claimed(PerOwner { user: Some(9), assistant: None }, 10).await.is_empty());
}
