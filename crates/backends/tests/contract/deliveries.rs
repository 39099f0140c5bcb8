//! Deliveries as people see and steer them.

use std::{collections::BTreeMap, time::Duration};

use threadyard_core::{
    deliveries::{Attempt, AttemptState, Delivery, DeliveryQuery, DeliveryState, Steered, Trigger},
    ids::{LeaseId, RecoveryId},
    page::Window,
    retention::DeliveryTimes,
    testkit::new_run,
    webhooks::{AttemptResult, ClaimDeliveries, ClaimedDelivery, NextStep},
};
use uuid::Uuid;

use crate::{Backend, at, run, success, thread};

const ALL: Window = Window { limit: 10, offset: 0 };

/// Ends a run of a thread of its own at this second.
async fn ended(backend: &Backend, n: u64, url: &str, seconds: i64) {
    backend.thread(n).await;
    let mut new = new_run(run(n), thread(n), at(seconds));
    new.run.kwargs.webhook = Some(url.into());
    backend.storage.create_run(new).await.unwrap();
    let held = backend.claim(1, at(seconds)).await.remove(0);
    backend.storage.finish_run(held.lease, success(at(seconds))).await.unwrap();
}

async fn claim(backend: &Backend, seconds: i64) -> Vec<ClaimedDelivery> {
    let lease_id = LeaseId(Uuid::from_u64_pair(5, seconds.unsigned_abs()));
    let claim = ClaimDeliveries {
        lease_id,
        limit: 10,
        bytes: usize::MAX,
        retries: 10,
        per_origin: 10,
        rooms: BTreeMap::new(),
        from: String::new(),
        now: at(seconds),
        until: at(seconds) + Duration::from_secs(45),
    };
    backend.storage.claim_deliveries(claim).await.unwrap().deliveries
}

async fn record(backend: &Backend, delivery: &ClaimedDelivery, seconds: i64, status: u16, next: NextStep) {
    let result = AttemptResult {
        id: delivery.id.clone(),
        lease_id: delivery.lease_id,
        attempt: delivery.attempt,
        at: at(seconds),
        status: Some(status),
        failure: (status >= 300).then(|| "refused".into()),
        next,
        not_before: None,
    };
    backend.storage.record_attempt(result).await.unwrap();
}

async fn seen(backend: &Backend, id: &str) -> (Delivery, Vec<Attempt>) {
    backend.storage.delivery(id.into()).await.unwrap().unwrap()
}

#[tokio::test]
async fn every_attempt_leaves_a_trace() {
    let backend = Backend::new().await;
    ended(&backend, 1, "https://user:pw@example.com/hook?token=secret", 0).await;
    let first = claim(&backend, 1).await.remove(0);
    let (delivery, attempts) = seen(&backend, &first.id).await;
    assert_eq!((delivery.url.as_str(), delivery.event.as_str()), ("https://example.com/hook", "run.success"));
    assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Pending, 1));
    assert_eq!((attempts[0].state, attempts[0].started_at, attempts[0].ended_at), (AttemptState::Started, at(1), None));
    record(&backend, &first, 2, 500, NextStep::RetryAt(at(10))).await;

    // The second sender dies, and the third delivers.
    let second = claim(&backend, 10).await.remove(0);
    let third = claim(&backend, 60).await.remove(0);
    record(&backend, &second, 61, 200, NextStep::Delivered).await;
    assert_eq!(seen(&backend, &first.id).await.0.state, DeliveryState::Pending, "its lease was over");
    record(&backend, &third, 62, 200, NextStep::Delivered).await;
    let (delivery, attempts) = seen(&backend, &first.id).await;
    assert_eq!((delivery.state, delivery.finished_at), (DeliveryState::Delivered, Some(at(62))));
    assert_eq!((delivery.last_status, delivery.last_failure, delivery.next_attempt_at), (Some(200), None, None));
    let shown: Vec<_> = attempts.iter().map(|it| (it.n, it.trigger, it.state, it.status)).collect();
    let scheduled = |n, state, status| (n, Trigger::Schedule, state, status);
    assert_eq!(
        shown,
        [
            scheduled(1, AttemptState::Done, Some(500)),
            scheduled(2, AttemptState::Unknown, None),
            scheduled(3, AttemptState::Done, Some(200)),
        ]
    );
    let body = backend.storage.delivery_body(first.id.clone()).await.unwrap();
    assert_eq!(body.map(String::into_bytes), Some(first.body.to_vec()));
}

#[tokio::test]
async fn a_resend_is_besides_the_schedule() {
    let backend = Backend::new().await;
    ended(&backend, 1, "https://example.com/hook", 0).await;
    let first = claim(&backend, 1).await.remove(0);
    let resend = async |seconds| backend.storage.resend_delivery(first.id.clone(), at(seconds)).await.unwrap();
    assert_eq!(resend(2).await, Steered::NotNow, "it is on its way");
    record(&backend, &first, 2, 500, NextStep::RetryAt(at(100))).await;

    // One that fails leaves the schedule as it was.
    assert_eq!(resend(3).await, Steered::Done);
    let again = claim(&backend, 3).await.remove(0);
    assert_eq!((again.attempt, again.scheduled, again.trigger), (2, 1, Trigger::Resend));
    assert_eq!((&again.id, &again.body), (&first.id, &first.body));
    record(&backend, &again, 4, 500, NextStep::AsBefore).await;
    assert_eq!(seen(&backend, &first.id).await.0.next_attempt_at, Some(at(100)));
    let scheduled = claim(&backend, 100).await.remove(0);
    assert_eq!((scheduled.attempt, scheduled.scheduled, scheduled.trigger), (3, 2, Trigger::Schedule));
    record(&backend, &scheduled, 101, 500, NextStep::Failed).await;

    // What was given up stays so until a resend gets through.
    for (seconds, next, state) in
        [(200, NextStep::AsBefore, DeliveryState::Failed), (300, NextStep::Delivered, DeliveryState::Delivered)]
    {
        assert_eq!(resend(seconds).await, Steered::Done);
        let again = claim(&backend, seconds).await.remove(0);
        record(&backend, &again, seconds + 1, 200, next).await;
        let (delivery, _) = seen(&backend, &first.id).await;
        assert_eq!((delivery.state, delivery.finished_at), (state, Some(at(seconds + 1))));
        assert!(claim(&backend, seconds + 50).await.is_empty());
    }
    assert_eq!(backend.storage.resend_delivery("msg_none".into(), at(0)).await.unwrap(), Steered::Missing);
}

#[tokio::test]
async fn what_is_cancelled_is_not_sent_and_a_late_result_changes_nothing() {
    let backend = Backend::new().await;
    ended(&backend, 1, "https://example.com/hook", 0).await;
    let held = claim(&backend, 1).await.remove(0);
    let cancel = async || backend.storage.cancel_delivery(held.id.clone(), at(2)).await.unwrap();
    assert_eq!(cancel().await, Steered::Done);
    assert_eq!(cancel().await, Steered::NotNow);
    record(&backend, &held, 3, 200, NextStep::Delivered).await;
    let (delivery, attempts) = seen(&backend, &held.id).await;
    assert_eq!((delivery.state, delivery.finished_at), (DeliveryState::Cancelled, Some(at(2))));
    assert_eq!(attempts[0].state, AttemptState::Unknown);
    assert!(claim(&backend, 1_000).await.is_empty());
    assert_eq!(backend.storage.cancel_delivery("msg_none".into(), at(0)).await.unwrap(), Steered::Missing);
}

#[tokio::test]
async fn deliveries_are_found_and_recovered() {
    let backend = Backend::new().await;
    for (n, url) in [(1, "https://a.example/x"), (2, "https://b.example/x"), (3, "https://a.example/y")] {
        ended(&backend, n, url, i64::try_from(n).unwrap()).await;
    }
    for delivery in claim(&backend, 10).await {
        let next = if delivery.run_id == run(2) { NextStep::Delivered } else { NextStep::Failed };
        record(&backend, &delivery, 11, 500, next).await;
    }
    let all = DeliveryQuery::default;
    for (query, expected) in [
        (all(), vec![3, 2, 1]),
        (DeliveryQuery { run_id: Some(run(2)), ..all() }, vec![2]),
        (DeliveryQuery { thread_id: Some(thread(3)), ..all() }, vec![3]),
        (DeliveryQuery { state: Some(DeliveryState::Failed), ..all() }, vec![3, 1]),
        (DeliveryQuery { url: Some("https://a.example/".into()), ..all() }, vec![3, 1]),
        (DeliveryQuery { since: Some(at(2)), until: Some(at(3)), ..all() }, vec![2]),
    ] {
        assert_eq!(backend.storage.count_deliveries(query.clone()).await.unwrap(), expected.len() as u64);
        let found = backend.storage.search_deliveries(query, ALL).await.unwrap().rows;
        assert_eq!(
            found.iter().map(|it| it.run_id).collect::<Vec<_>>(),
            expected.into_iter().map(run).collect::<Vec<_>>()
        );
    }
    let page = backend.storage.search_deliveries(all(), Window { limit: 1, offset: 1 }).await.unwrap();
    assert!(page.more && page.rows[0].run_id == run(2));

    let recover = async |n, query| {
        let id = RecoveryId(Uuid::from_u64_pair(6, n));
        backend.storage.begin_recovery(id, query, at(20)).await.unwrap();
        backend.storage.recover_deliveries(10, at(20)).await.unwrap().unwrap().recovered
    };
    assert_eq!(recover(1, DeliveryQuery { since: Some(at(2)), ..all() }).await, 1);
    assert_eq!(claim(&backend, 20).await.iter().map(|it| it.run_id).collect::<Vec<_>>(), [run(3)]);
    assert_eq!(recover(2, all()).await, 1, "one is on its way and one was delivered");
}

#[tokio::test]
async fn rows_are_swept_while_bodies_are_erased() {
    let backend = Backend::new().await;
    for (n, seconds) in [(1, 1), (2, 1_000)] {
        ended(&backend, n, "https://example.com/hook", seconds).await;
        let delivery = claim(&backend, seconds + 1).await.remove(0);
        record(&backend, &delivery, seconds + 2, 200, NextStep::Delivered).await;
    }
    let sweep = async |body, row| {
        let before = DeliveryTimes { body: at(body), row: at(row) };
        backend.storage.sweep_deliveries(before, 10).await.unwrap()
    };
    assert_eq!(sweep(500, 0).await, 1);
    assert_eq!(sweep(2_000, 500).await, 1);
    let left = backend.storage.search_deliveries(DeliveryQuery::default(), ALL).await.unwrap().rows;
    assert_eq!(left.iter().map(|it| it.run_id).collect::<Vec<_>>(), [run(2)]);
    let body = backend.storage.delivery_body(left[0].delivery_id.clone()).await.unwrap();
    assert_eq!(body.as_deref(), Some(""));
}

#[tokio::test]
async fn large_bodies_are_taken_as_far_as_there_is_room() {
    let backend = Backend::new().await;
    for n in 1..3 {
        ended(&backend, n, "https://example.com/hook", 1).await;
    }
    let claim = async |bytes, n| {
        let lease_id = LeaseId(Uuid::from_u64_pair(7, n));
        let (rooms, now, until) = (BTreeMap::new(), at(3), at(60));
        let claim = ClaimDeliveries {
            lease_id,
            limit: 9,
            bytes,
            retries: 9,
            per_origin: 9,
            rooms,
            from: String::new(),
            now,
            until,
        };
        backend.storage.claim_deliveries(claim).await.unwrap().deliveries.len()
    };
    assert_eq!((claim(0, 1).await, claim(1, 2).await, claim(1, 3).await, claim(1, 4).await), (0, 1, 1, 0));
}
