//! Runs that are claimed as they are made, by whoever has room for them.

use std::time::Duration;

use threadyard_core::{
    checkpoints::Writer,
    ids::LeaseId,
    json::{Object, Value},
    runs::{ClaimedRun, CreatedRun, ExpireLeases, MultitaskStrategy, NewLease, NewRun, RunStatus},
    testkit::{new_run, sample_checkpoint},
};
use uuid::Uuid;

use crate::{Backend, at, run, success, thread};

fn claimed_when_made(n: u64, on: u64) -> NewRun {
    let lease = NewLease { lease_id: LeaseId(Uuid::from_u64_pair(5, n)), until: at(30) };
    NewRun { create_thread: Some(Object::new()), claim: Some(lease), ..new_run(run(n), thread(on), at(0)) }
}

async fn make(backend: &Backend, new: NewRun) -> Option<ClaimedRun> {
    match backend.storage.create_run(new).await.unwrap() {
        CreatedRun::Created { claimed, .. } => claimed.map(|claimed| *claimed),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_run_is_claimed_as_it_is_made() {
    let backend = Backend::new().await;
    let metadata: Object = [("graph_id".to_owned(), Value::from("echo"))].into_iter().collect();
    let new = NewRun { thread_metadata: metadata.clone(), ..claimed_when_made(1, 1) };
    let claimed = make(&backend, new).await.unwrap();
    assert_eq!((claimed.run.status, claimed.run.attempt, claimed.run.started_at), (RunStatus::Running, 1, Some(at(0))));
    assert_eq!(claimed.thread_metadata, metadata);
    assert!(claimed.head.is_none() && !claimed.resume);
    assert!(backend.claim(10, at(1)).await.is_empty());
    let stored = backend.storage.run_by_id(run(1)).await.unwrap().unwrap();
    assert_eq!((stored.status, stored.attempt, stored.started_at), (RunStatus::Running, 1, Some(at(0))));
    // Its lease is one like any other.
    backend.storage.extend_leases(vec![claimed.lease], at(60)).await.unwrap();
    assert!(
        backend.storage.expire_leases(ExpireLeases { now: at(59), max_attempts: 3 }).await.unwrap().requeued.is_empty()
    );
    assert!(!backend.storage.finish_run(claimed.lease, success(at(59))).await.unwrap(), "nothing else waits");
}

#[tokio::test]
async fn a_run_that_has_to_wait_is_not_claimed() {
    let backend = Backend::new().await;
    let later = NewRun { due_at: at(0) + Duration::from_secs(5), ..claimed_when_made(1, 1) };
    assert!(make(&backend, later).await.is_none());
    assert!(make(&backend, claimed_when_made(2, 1)).await.is_none(), "another one is pending");
    assert!(make(&backend, NewRun { claim: None, ..claimed_when_made(3, 2) }).await.is_none(), "nobody asked");
    let first = make(&backend, claimed_when_made(4, 3)).await.unwrap();
    assert!(make(&backend, claimed_when_made(5, 3)).await.is_none(), "another one is running");
    assert!(backend.storage.finish_run(first.lease, success(at(1))).await.unwrap(), "one waits");
    let refused = NewRun {
        run: threadyard_core::runs::Run {
            multitask_strategy: MultitaskStrategy::Reject,
            ..claimed_when_made(6, 3).run
        },
        ..claimed_when_made(6, 3)
    };
    assert!(matches!(backend.storage.create_run(refused).await.unwrap(), CreatedRun::ThreadBusy));
}

#[tokio::test]
async fn a_run_that_is_claimed_as_it_is_made_begins_where_its_thread_stands() {
    let backend = Backend::new().await;
    let first = make(&backend, claimed_when_made(1, 1)).await.unwrap();
    let put = sample_checkpoint(&thread(1).to_string(), "1", None);
    backend.storage.put_checkpoint(Writer::Run(first.lease), put).await.unwrap();
    backend.storage.finish_run(first.lease, success(at(1))).await.unwrap();
    let second = make(&backend, claimed_when_made(2, 1)).await.unwrap();
    assert_eq!(second.head.map(|head| head.id).as_deref(), Some("1"));
    assert_eq!((second.run.attempt, second.resume), (1, false));
}
