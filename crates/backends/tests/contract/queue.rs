//! Runs: the queue, leases, multitask strategies, and how runs end.

use std::collections::HashSet;

use threadyard_core::{
    cancel::{CancelAction, CancelCause, CancelRequest, CancelRun, CancelledRun},
    metadata_filter::MetadataFilter,
    page::Window,
    runs::{CreatedRun, ExpireLeases, GivenBack, Halt, MultitaskStrategy, NewRun, RunQuery, RunStatus},
    storage::StorageError,
    testkit::{new_run, sample_checkpoint},
    threads::ThreadStatus,
};

use crate::{Backend, at, run, success, thread};

const WINDOW: Window = Window { limit: 10, offset: 0 };

fn with_strategy(n: u64, strategy: MultitaskStrategy) -> NewRun {
    let mut new = new_run(run(n), thread(1), at(0));
    new.run.multitask_strategy = strategy;
    new
}

fn stop(action: CancelAction) -> CancelRequest {
    CancelRequest { action, reason: "test".into(), cause: CancelCause::User }
}

#[tokio::test]
async fn runs_of_a_thread_are_claimed_one_at_a_time_in_order() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    for n in 1..=3 {
        backend.storage.create_run(new_run(run(n), thread(1), at(0))).await.unwrap();
    }
    for n in 1..=3 {
        let claimed = backend.claim(10, at(1)).await;
        assert_eq!(claimed.iter().map(|it| it.run.run_id).collect::<Vec<_>>(), [run(n)]);
        assert_eq!((claimed[0].run.attempt, claimed[0].run.status), (1, RunStatus::Running));
        assert!(backend.claim(10, at(1)).await.is_empty());
        backend.storage.finish_run(claimed[0].lease, success(at(2))).await.unwrap();
    }
    let query = RunQuery { thread_id: thread(1), status: Some(RunStatus::Success) };
    let listed = backend.storage.search_runs(query, WINDOW).await.unwrap().rows;
    assert_eq!(listed.iter().map(|it| it.run_id).collect::<Vec<_>>(), [run(3), run(2), run(1)]);
}

#[tokio::test]
async fn concurrent_claimers_never_share_a_run() {
    let backend = Backend::new().await;
    for n in 1..=40 {
        backend.thread(n).await;
        backend.storage.create_run(new_run(run(n), thread(n), at(0))).await.unwrap();
    }
    let mut claimers = tokio::task::JoinSet::new();
    for claimer in 0..50 {
        let storage = backend.storage.clone();
        claimers.spawn(async move {
            let claim = threadyard_core::runs::ClaimRuns {
                lease_id: threadyard_core::ids::LeaseId(uuid::Uuid::from_u64_pair(4, claimer)),
                limit: 3,
                now: at(1),
                until: at(31),
            };
            storage.claim_runs(claim).await.unwrap().runs
        });
    }
    let claimed: Vec<_> = claimers.join_all().await.into_iter().flatten().map(|it| it.run.run_id).collect();
    assert_eq!(claimed.len(), 40);
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>().len(), 40);
}

#[tokio::test]
async fn a_run_waits_for_its_time_and_makes_its_thread_busy() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    let mut new = new_run(run(1), thread(1), at(0));
    new.due_at = at(60);
    backend.storage.create_run(new).await.unwrap();
    assert!(backend.claim(10, at(59)).await.is_empty());
    assert_eq!(backend.storage.thread(thread(1)).await.unwrap().unwrap().status, ThreadStatus::Busy);
    assert_eq!(backend.claim(10, at(60)).await.len(), 1);
}

#[tokio::test]
async fn clocks_that_differ_change_no_order_within_a_thread() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    for (n, made) in [(1, 5), (2, 3)] {
        backend.storage.create_run(new_run(run(n), thread(1), at(made))).await.unwrap();
    }
    assert!(backend.claim(10, at(4)).await.is_empty());
    for n in 1..=2 {
        let claimed = backend.claim(10, at(5)).await.remove(0);
        assert_eq!(claimed.run.run_id, run(n));
        backend.storage.finish_run(claimed.lease, success(at(6))).await.unwrap();
    }
}

#[tokio::test]
async fn who_lost_the_lease_writes_no_more() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    backend.storage.create_run(new_run(run(1), thread(1), at(0))).await.unwrap();
    let lost = backend.claim(1, at(1)).await.remove(0);
    let expired = backend.storage.expire_leases(ExpireLeases { now: at(31), max_attempts: 3 }).await.unwrap();
    assert_eq!(expired.requeued, [run(1)]);
    let held = backend.claim(1, at(32)).await.remove(0);
    assert_eq!(held.run.attempt, 2);
    assert_eq!(backend.storage.finish_run(lost.lease, success(at(33))).await, Err(StorageError::LeaseLost));
    let writer = threadyard_core::checkpoints::Writer::Run(lost.lease);
    let put = sample_checkpoint(&thread(1).to_string(), "1", None);
    assert_eq!(backend.storage.put_checkpoint(writer, put).await, Err(StorageError::LeaseLost));
    backend.storage.finish_run(held.lease, success(at(33))).await.unwrap();
    assert_eq!(backend.storage.finish_run(held.lease, success(at(34))).await, Err(StorageError::LeaseLost));
}

#[tokio::test]
async fn a_renewed_lease_does_not_expire_and_attempts_run_out() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    backend.storage.create_run(new_run(run(1), thread(1), at(0))).await.unwrap();
    let held = backend.claim(1, at(0)).await.remove(0);
    backend.storage.extend_leases(vec![held.lease], at(90)).await.unwrap();
    let expire = |seconds| ExpireLeases { now: at(seconds), max_attempts: 1 };
    assert!(backend.storage.expire_leases(expire(60)).await.unwrap().ended.is_empty());
    let (ended, ending) = backend.storage.expire_leases(expire(90)).await.unwrap().ended.remove(0);
    assert_eq!((ended.run_id, ending.error.unwrap().error.as_str()), (run(1), "MaxAttemptsExceeded"));
    let ended = backend.storage.run(thread(1), run(1)).await.unwrap().unwrap();
    assert_eq!(ended.status, RunStatus::Error);
    assert!(ended.error.unwrap().get().contains("MaxAttemptsExceeded"));
    assert_eq!(backend.storage.thread(thread(1)).await.unwrap().unwrap().status, ThreadStatus::Error);
}

#[tokio::test]
async fn who_keeps_a_lease_alive_hears_that_its_run_is_to_stop() {
    let backend = Backend::new().await;
    for n in 1..=4 {
        backend.thread(n).await;
        backend.storage.create_run(new_run(run(n), thread(n), at(0))).await.unwrap();
    }
    let leases: Vec<_> = backend.claim(10, at(1)).await.iter().map(|claimed| claimed.lease).collect();
    assert!(backend.storage.extend_leases(leases.clone(), at(90)).await.unwrap().is_empty());
    let asked = stop(CancelAction::Rollback);
    backend
        .storage
        .cancel_run(CancelRun {
            thread_id: thread(1),
            run_id: run(1),
            within: MetadataFilter::default(),
            request: asked,
            now: at(2),
        })
        .await
        .unwrap();
    backend.storage.delete_run(thread(2), run(2), MetadataFilter::default()).await.unwrap();
    backend.storage.requeue_run(leases[2], GivenBack::Blameless, at(2)).await.unwrap();
    let mut halted = backend.storage.extend_leases(leases, at(91)).await.unwrap();
    halted.sort_by_key(|(run_id, _)| run_id.0);
    let expected = [(run(1), Halt::Asked(CancelAction::Rollback)), (run(2), Halt::Lost), (run(3), Halt::Lost)];
    assert_eq!(halted, expected);
}

#[tokio::test]
async fn a_hand_over_does_not_use_up_an_attempt() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    backend.storage.create_run(new_run(run(1), thread(1), at(0))).await.unwrap();
    for (why, counted) in [(GivenBack::Blameless, 1), (GivenBack::Failed, 2)] {
        let held = backend.claim(1, at(1)).await.remove(0);
        backend.storage.requeue_run(held.lease, why, at(2)).await.unwrap();
        let again = backend.claim(1, at(3)).await.remove(0);
        assert_eq!(again.run.counted_attempts(), counted);
        backend.storage.requeue_run(again.lease, GivenBack::SharedLoss, at(4)).await.unwrap();
    }
}

#[tokio::test]
async fn strategies_decide_about_runs_that_are_there() {
    for (strategy, running, pending) in [
        (MultitaskStrategy::Enqueue, None, Some(RunStatus::Pending)),
        (MultitaskStrategy::Interrupt, Some(CancelAction::Interrupt), Some(RunStatus::Interrupted)),
        (MultitaskStrategy::Rollback, Some(CancelAction::Rollback), None),
    ] {
        let backend = Backend::new().await;
        backend.thread(1).await;
        backend.storage.create_run(new_run(run(1), thread(1), at(0))).await.unwrap();
        backend.claim(1, at(0)).await;
        backend.storage.create_run(new_run(run(2), thread(1), at(0))).await.unwrap();
        backend.storage.create_run(with_strategy(3, strategy)).await.unwrap();
        let request = backend.storage.cancel_request(run(1)).await.unwrap();
        assert_eq!(request.map(|it| it.action), running, "{strategy:?}");
        let second = backend.storage.run(thread(1), run(2)).await.unwrap();
        assert_eq!(second.map(|it| it.status), pending, "{strategy:?}");
    }
}

#[tokio::test]
async fn a_busy_thread_refuses_and_a_missing_one_is_made_on_demand() {
    let backend = Backend::new().await;
    let refused = backend.storage.create_run(new_run(run(1), thread(1), at(0))).await.unwrap();
    assert!(matches!(refused, CreatedRun::ThreadMissing));
    let mut new = new_run(run(1), thread(1), at(0));
    new.create_thread = Some(threadyard_core::json::Object::new());
    backend.storage.create_run(new).await.unwrap();
    let refused = backend.storage.create_run(with_strategy(2, MultitaskStrategy::Reject)).await.unwrap();
    assert!(matches!(refused, CreatedRun::ThreadBusy));
    assert!(backend.storage.run_by_id(run(2)).await.unwrap().is_none());
}

#[tokio::test]
async fn cancelling_ends_what_is_pending_and_marks_what_is_running() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    backend.storage.create_run(new_run(run(1), thread(1), at(0))).await.unwrap();
    let cancel = |action| {
        backend.storage.cancel_run(CancelRun {
            thread_id: thread(1),
            run_id: run(1),
            within: MetadataFilter::default(),
            request: stop(action),
            now: at(1),
        })
    };
    assert_eq!(cancel(CancelAction::Interrupt).await.unwrap(), CancelledRun::Ended);
    assert_eq!(cancel(CancelAction::Interrupt).await.unwrap(), CancelledRun::Finished);
    backend.storage.create_run(new_run(run(2), thread(1), at(2))).await.unwrap();
    let held = backend.claim(1, at(2)).await.remove(0);
    let request = stop(CancelAction::Rollback);
    let outcome = backend
        .storage
        .cancel_run(CancelRun {
            thread_id: thread(1),
            run_id: run(2),
            within: MetadataFilter::default(),
            request: request.clone(),
            now: at(3),
        })
        .await
        .unwrap();
    assert_eq!(outcome, CancelledRun::Stopping);
    let writer = threadyard_core::checkpoints::Writer::Run(held.lease);
    backend.storage.put_checkpoint(writer, sample_checkpoint(&thread(1).to_string(), "1", None)).await.unwrap();
    backend.storage.finish_run(held.lease, request.ending(at(4))).await.unwrap();
    assert!(backend.storage.run(thread(1), run(2)).await.unwrap().is_none());
    assert!(backend.storage.checkpoint(&thread(1).to_string(), "", None).await.unwrap().is_none());
    let missing = backend
        .storage
        .cancel_run(CancelRun {
            thread_id: thread(1),
            run_id: run(9),
            within: MetadataFilter::default(),
            request: stop(CancelAction::Interrupt),
            now: at(5),
        })
        .await
        .unwrap();
    assert_eq!(missing, CancelledRun::Missing);
}

#[tokio::test]
async fn deleting_a_run_takes_its_checkpoints_and_no_others() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    let name = thread(1).to_string();
    for (n, parent) in [(1, None), (2, Some("1"))] {
        backend.storage.create_run(new_run(run(n), thread(1), at(0))).await.unwrap();
        let held = backend.claim(1, at(1)).await.remove(0);
        let writer = threadyard_core::checkpoints::Writer::Run(held.lease);
        backend.storage.put_checkpoint(writer, sample_checkpoint(&name, &n.to_string(), parent)).await.unwrap();
        backend.storage.finish_run(held.lease, success(at(2))).await.unwrap();
    }
    assert_eq!(
        backend.storage.delete_run(thread(1), run(2), MetadataFilter::default()).await.unwrap(),
        Some(RunStatus::Success)
    );
    assert_eq!(backend.storage.delete_run(thread(1), run(2), MetadataFilter::default()).await.unwrap(), None);
    let head = backend.storage.checkpoint(&name, "", None).await.unwrap().unwrap();
    assert_eq!((head.id.as_str(), head.blobs.len()), ("1", 1));
}

#[tokio::test]
async fn runs_of_a_batch_are_made_together_or_not_at_all() {
    let backend = Backend::new().await;
    let with_thread = |n| {
        let mut new = new_run(run(n), thread(n), at(0));
        new.create_thread = Some(threadyard_core::json::Object::new());
        new
    };
    backend.storage.create_runs(vec![with_thread(1), with_thread(2)]).await.unwrap().unwrap();
    assert!(backend.storage.create_runs(vec![with_thread(3), with_thread(2)]).await.is_err());
    let claimed = backend.claim(9, at(0)).await;
    assert_eq!(claimed.iter().map(|it| it.run.run_id).collect::<Vec<_>>(), [run(1), run(2)]);
    assert!(backend.storage.thread(thread(3)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_temporary_run_that_is_deleted_takes_its_thread() {
    let backend = Backend::new().await;
    let mut new = new_run(run(1), thread(1), at(0));
    (new.create_thread, new.run.kwargs.temporary) = (Some(threadyard_core::json::Object::new()), true);
    backend.storage.create_run(new).await.unwrap();
    backend.storage.delete_run(thread(1), run(1), MetadataFilter::default()).await.unwrap();
    assert!(backend.storage.thread(thread(1)).await.unwrap().is_none());
}
