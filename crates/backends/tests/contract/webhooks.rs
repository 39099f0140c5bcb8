//! Deliveries: written with the end of a run, leased, recorded.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use serde_json::{Value, json};
use threadyard_core::{
    cancel::{CancelAction, CancelCause, CancelRequest, CancelRun},
    deliveries::{DeliveryQuery, DeliveryState, Steered, Trigger},
    ids::{LeaseId, RecoveryId},
    metadata_filter::MetadataFilter,
    page::Window,
    retention::DeliveryTimes,
    testkit::new_run,
    time::Timestamp,
    webhooks::{AttemptResult, ClaimDeliveries, ClaimedDelivery, GivenUp, LeftAlone, NextStep, OWN_APP, Overdue},
};
use uuid::Uuid;

use crate::{Backend, at, run, success, thread};

const URL: &str = "https://user:pass@example.com/hook?token=secret";

pub(crate) async fn claim(backend: &Backend, seconds: i64) -> Vec<ClaimedDelivery> {
    let lease_id = LeaseId(Uuid::from_u64_pair(5, seconds.unsigned_abs()));
    let now = at(seconds);
    let claim = ClaimDeliveries {
        lease_id,
        limit: 10,
        bytes: usize::MAX,
        retries: 10,
        per_origin: 10,
        rooms: BTreeMap::new(),
        from: String::new(),
        now,
        until: now + Duration::from_secs(45),
    };
    opened(backend, claim).await
}

/// As a sender has them.
async fn opened(backend: &Backend, claim: ClaimDeliveries) -> Vec<ClaimedDelivery> {
    let claimed = backend.storage.claim_deliveries(claim).await.unwrap().deliveries;
    join_all(claimed.into_iter().map(|it| async { backend.storage.open_delivery(it).await.unwrap() })).await
}

pub(crate) fn result(delivery: &ClaimedDelivery, seconds: i64, next: NextStep) -> AttemptResult {
    let (id, lease_id) = (delivery.id.clone(), delivery.lease_id);
    AttemptResult {
        id,
        lease_id,
        attempt: delivery.attempt,
        at: at(seconds),
        status: Some(500),
        failure: None,
        next,
        not_before: None,
    }
}

pub(crate) async fn ended_run(backend: &Backend, enabled: bool) {
    backend.thread(1).await;
    let mut new = new_run(run(1), thread(1), at(0));
    new.run.kwargs.webhook = Some(URL.into());
    new.webhooks_enabled = enabled;
    backend.storage.create_run(new).await.unwrap();
    let held = backend.claim(1, at(1)).await.remove(0);
    assert!(claim(backend, 1).await.is_empty());
    backend.storage.finish_run(held.lease, success(at(2))).await.unwrap();
}

#[tokio::test]
async fn the_end_of_a_run_is_told_until_somebody_has_it() {
    let backend = Backend::new().await;
    ended_run(&backend, true).await;
    let first = claim(&backend, 2).await.remove(0);
    let body: Value = serde_json::from_slice(&first.body).unwrap();
    assert_eq!((first.url.as_str(), first.attempt), (URL, 1));
    assert_eq!((body["status"].as_str(), body["run_id"].as_str()), (Some("success"), Some(&*run(1).to_string())));
    let text = String::from_utf8(first.body.to_vec()).unwrap();
    assert!(!text.contains("secret") && !text.contains("pass"));
    assert!(claim(&backend, 3).await.is_empty(), "it is leased");
    backend.storage.record_attempt(result(&first, 3, NextStep::RetryAt(at(10)))).await.unwrap();
    assert!(claim(&backend, 9).await.is_empty());
    let second = claim(&backend, 10).await.remove(0);
    assert_eq!((second.attempt, &second.body, &second.id), (2, &first.body, &first.id));
    backend.storage.record_attempt(result(&first, 11, NextStep::Delivered)).await.unwrap();
    let third = claim(&backend, 60).await.remove(0);
    assert_eq!(third.attempt, 3, "a result under a lost lease changes nothing");
    backend.storage.record_attempt(result(&third, 61, NextStep::Delivered)).await.unwrap();
    assert!(claim(&backend, 10_000).await.is_empty());
}

#[tokio::test]
async fn the_own_application_is_told_who_made_a_run_by_whoever_has_it() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    let mut new = new_run(run(1), thread(1), at(0));
    new.run.kwargs.webhook = Some("/done?token=secret".into());
    let configurable = json!({ "langgraph_auth_user": { "identity": "ann", "team": "blue" } });
    new.run.kwargs.config.insert("configurable".into(), configurable);
    backend.storage.create_run(new).await.unwrap();
    let held = backend.claim(1, at(1)).await.remove(0);
    backend.storage.finish_run(held.lease, success(at(2))).await.unwrap();
    let take = async |per_origin, own| {
        let claim = ClaimDeliveries {
            lease_id: LeaseId(Uuid::from_u64_pair(5, 1)),
            limit: 1,
            bytes: usize::MAX,
            retries: 1,
            per_origin,
            rooms: BTreeMap::from([(OWN_APP.to_owned(), own)]),
            from: String::new(),
            now: at(3),
            until: at(50),
        };
        opened(&backend, claim).await
    };
    assert!(take(1, 0).await.is_empty(), "it is for others to send");
    let told = take(0, 1).await.remove(0);
    assert_eq!((told.origin.as_str(), told.url.as_str()), (OWN_APP, "/done?token=secret"));
    let maker = told.maker.unwrap();
    assert_eq!((maker.identity(), maker.fields()["team"].as_str()), ("ann", Some("blue")));
    let shown =
        backend.storage.search_deliveries(DeliveryQuery::default(), Window { limit: 1, offset: 0 }).await.unwrap();
    assert_eq!(shown.rows[0].url, "/done");
}

#[tokio::test]
async fn a_sender_that_dies_uses_up_no_attempt_of_the_schedule() {
    let mut backend = Backend::new().await;
    ended_run(&backend, true).await;
    // Its lease ends with it, or else by itself.
    for n in 0..12 {
        assert_eq!(claim(&backend, 3 + 60 * n).await.remove(0).scheduled, 1);
        backend = backend.reopen().await;
    }
    let held = claim(&backend, 800).await.remove(0);
    assert_eq!((held.attempt, held.scheduled), (13, 1));
    backend.storage.record_attempt(result(&held, 801, NextStep::RetryAt(at(830)))).await.unwrap();
    assert_eq!(claim(&backend, 830).await.remove(0).scheduled, 2);
}

#[tokio::test]
async fn a_sender_that_dies_in_an_attempt_that_was_asked_for_changes_no_schedule() {
    let mut backend = Backend::new().await;
    ended_run(&backend, true).await;
    let one = Window { limit: 1, offset: 0 };
    let found = backend.storage.search_deliveries(DeliveryQuery::default(), one).await.unwrap();
    backend.storage.resend_delivery(found.rows[0].delivery_id.clone(), at(3)).await.unwrap();
    for n in 0..3 {
        assert_eq!(claim(&backend, 3 + 60 * n).await.remove(0).trigger, Trigger::Resend);
        backend = backend.reopen().await;
    }
    let held = claim(&backend, 190).await.remove(0);
    backend.storage.record_attempt(result(&held, 191, NextStep::AsBefore)).await.unwrap();
    let scheduled = claim(&backend, 192).await.remove(0);
    assert_eq!((scheduled.trigger, scheduled.scheduled), (Trigger::Schedule, 1));
}

#[tokio::test]
async fn who_asked_to_be_left_alone_is_remembered() {
    let backend = Backend::new().await;
    ended_run(&backend, true).await;
    for (seconds, until) in [(2, 500), (10, 400)] {
        let held = claim(&backend, seconds).await.remove(0);
        let asked =
            AttemptResult { not_before: Some(at(until)), ..result(&held, seconds + 1, NextStep::RetryAt(at(10))) };
        backend.storage.record_attempt(asked).await.unwrap();
    }
    let backend = backend.reopen().await;
    let left = LeftAlone { origin: "https://example.com".into(), not_before: at(500) };
    assert_eq!(backend.storage.left_alone(at(499)).await.unwrap(), [left]);
    assert_eq!(backend.storage.left_alone(at(500)).await.unwrap(), []);
}

#[tokio::test]
async fn the_told_end_of_a_deleted_run_goes_with_it() {
    let backend = Backend::new().await;
    ended_run(&backend, true).await;
    let held = claim(&backend, 2).await.remove(0);
    backend.storage.record_attempt(result(&held, 3, NextStep::Delivered)).await.unwrap();
    backend.storage.delete_run(thread(1), run(1), MetadataFilter::default()).await.unwrap();
    assert!(backend.storage.delivery(held.id).await.unwrap().is_none());
}

#[tokio::test]
async fn disabled_webhooks_leave_nothing_to_send() {
    let backend = Backend::new().await;
    ended_run(&backend, false).await;
    assert!(claim(&backend, 10).await.is_empty());
}

#[tokio::test]
async fn the_hook_of_a_rolled_back_run_and_of_a_deleted_thread_still_goes_out() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    let mut new = new_run(run(1), thread(1), at(0));
    new.run.kwargs.webhook = Some(URL.into());
    backend.storage.create_run(new).await.unwrap();
    let cancel = CancelRequest { action: CancelAction::Rollback, reason: "test".into(), cause: CancelCause::User };
    backend
        .storage
        .cancel_run(CancelRun {
            thread_id: thread(1),
            run_id: run(1),
            within: MetadataFilter::default(),
            request: cancel,
            now: at(1),
        })
        .await
        .unwrap();
    backend.storage.delete_thread(thread(1), MetadataFilter::default()).await.unwrap();
    let body: Value = serde_json::from_slice(&claim(&backend, 2).await.remove(0).body).unwrap();
    assert_eq!((body["status"].as_str(), body["error"]["error"].as_str()), (Some("rollback"), Some("UserRollback")));
}

fn before(row: i64) -> DeliveryTimes<Timestamp> {
    DeliveryTimes { body: at(0), row: at(row) }
}

#[tokio::test]
async fn bodies_are_erased_first_and_not_sent_again() {
    let backend = Backend::new().await;
    ended_run(&backend, true).await;
    let delivery = claim(&backend, 2).await.remove(0);
    backend.storage.record_attempt(result(&delivery, 3, NextStep::Failed)).await.unwrap();
    let sweep = || backend.storage.sweep_deliveries(DeliveryTimes { body: at(4), row: at(3) }, 10);
    assert_eq!((sweep().await.unwrap(), sweep().await.unwrap()), (1, 0));
    assert_eq!(backend.storage.delivery_body(delivery.id.clone()).await.unwrap().as_deref(), Some(""));
    assert_eq!(backend.storage.resend_delivery(delivery.id.clone(), at(5)).await.unwrap(), Steered::Erased);
    let id = RecoveryId(uuid::Uuid::nil());
    backend.storage.begin_recovery(id, DeliveryQuery::default(), at(5)).await.unwrap();
    assert_eq!(backend.storage.recover_deliveries(10, at(5)).await.unwrap().unwrap().recovered, 0);
}

#[tokio::test]
async fn what_waits_for_too_long_is_given_up() {
    let backend = Backend::new().await;
    ended_run(&backend, true).await;
    let give_up = async |begun_before| {
        backend.storage.give_up_deliveries(Overdue { begun_before: at(begun_before), now: at(900) }, 10).await.unwrap()
    };
    assert_eq!(give_up(2).await, []);
    let held = claim(&backend, 3).await.remove(0);
    assert_eq!(give_up(100).await, [], "it is on its way");
    backend.storage.record_attempt(result(&held, 4, NextStep::RetryAt(at(50)))).await.unwrap();
    assert_eq!(give_up(100).await, [GivenUp { id: held.id.clone(), event: "run.success".into() }]);
    assert!(claim(&backend, 60).await.is_empty());

    // Recovered, it has all its attempts again, and all its time.
    let id = RecoveryId(uuid::Uuid::nil());
    backend.storage.begin_recovery(id, DeliveryQuery::default(), at(200)).await.unwrap();
    backend.storage.recover_deliveries(10, at(200)).await.unwrap();
    assert_eq!(give_up(100).await, []);
    let again = claim(&backend, 200).await.remove(0);
    assert_eq!((again.attempt, again.scheduled, again.trigger), (2, 1, Trigger::Schedule));
    assert!(backend.storage.record_attempt(result(&again, 201, NextStep::Delivered)).await.unwrap());

    // What was delivered stays so when a further attempt that somebody asked for never came to be.
    for stop in 0..3 {
        backend.storage.resend_delivery(again.id.clone(), at(300)).await.unwrap();
        match stop {
            0 => drop(backend.storage.cancel_delivery(again.id.clone(), at(301)).await.unwrap()),
            1 => drop(backend.storage.skip_deliveries(at(301)).await.unwrap()),
            _ => assert_eq!(give_up(400).await, []),
        }
        let (delivery, _) = backend.storage.delivery(again.id.clone()).await.unwrap().unwrap();
        assert_eq!(delivery.state, DeliveryState::Delivered, "{stop}");
        assert!(claim(&backend, 302).await.is_empty());
    }
}

#[tokio::test]
async fn what_is_to_be_sent_is_skipped_and_recovered() {
    let backend = Backend::new().await;
    ended_run(&backend, true).await;
    let waiting = backend.storage.waiting().await.unwrap();
    assert_eq!((waiting.len(), waiting[0].deliveries, waiting[0].due), (1, 1, at(2)));
    assert_eq!(backend.storage.skip_deliveries(at(2)).await.unwrap(), 1);
    assert!(claim(&backend, 3).await.is_empty() && backend.storage.waiting().await.unwrap().is_empty());
    let id = RecoveryId(uuid::Uuid::nil());
    backend.storage.begin_recovery(id, DeliveryQuery::default(), at(4)).await.unwrap();
    let recovery = backend.storage.recover_deliveries(1, at(4)).await.unwrap().unwrap();
    assert_eq!((recovery.recovered, recovery.finished_at), (1, None));
    let recovery = backend.storage.recover_deliveries(1, at(5)).await.unwrap().unwrap();
    assert_eq!((recovery.recovered, recovery.finished_at), (1, Some(at(5))));
    assert_eq!(backend.storage.recovery(id).await.unwrap(), Some(recovery));
    assert_eq!(backend.storage.recover_deliveries(1, at(6)).await.unwrap(), None);
    assert_eq!(claim(&backend, 6).await.len(), 1);
}

#[tokio::test]
async fn only_settled_deliveries_are_swept_or_go_with_their_thread() {
    let backend = Backend::new().await;
    ended_run(&backend, true).await;
    assert_eq!(backend.storage.sweep_deliveries(before(1_000), 10).await.unwrap(), 0, "it is still to be sent");
    let delivery = claim(&backend, 2).await.remove(0);
    backend.storage.record_attempt(result(&delivery, 3, NextStep::Delivered)).await.unwrap();
    assert_eq!(backend.storage.sweep_deliveries(before(3), 10).await.unwrap(), 0);
    assert_eq!(backend.storage.sweep_deliveries(before(4), 10).await.unwrap(), 1);

    let mut new = new_run(run(2), thread(1), at(5));
    new.run.kwargs.webhook = Some(URL.into());
    backend.storage.create_run(new).await.unwrap();
    let held = backend.claim(1, at(5)).await.remove(0);
    backend.storage.finish_run(held.lease, success(at(6))).await.unwrap();
    let delivery = claim(&backend, 7).await.remove(0);
    backend.storage.record_attempt(result(&delivery, 8, NextStep::Failed)).await.unwrap();
    backend.storage.delete_thread(thread(1), MetadataFilter::default()).await.unwrap();
    assert_eq!(backend.storage.sweep_deliveries(before(9_999), 10).await.unwrap(), 0, "it went with its thread");
}

/// Runs that ended with a webhook, one after the other.
async fn ended_runs(backend: &Backend, urls: impl IntoIterator<Item = &str>) {
    for (n, url) in urls.into_iter().enumerate() {
        let n = n as u64 + 1;
        backend.thread(n).await;
        let mut new = new_run(run(n), thread(n), at(0));
        new.run.kwargs.webhook = Some(url.into());
        backend.storage.create_run(new).await.unwrap();
        let held = backend.claim(1, at(1)).await.remove(0);
        backend.storage.finish_run(held.lease, success(at(2))).await.unwrap();
    }
}

#[tokio::test]
async fn one_receiver_does_not_take_the_room_of_others() {
    let backend = Backend::new().await;
    let others = ["https://a.example/x", "https://z.example/x", "https://parked.example/x"];
    ended_runs(&backend, ["https://busy.example/x"; 60].into_iter().chain(others)).await;
    let claim = async |retries, limit, seconds| {
        let lease_id = LeaseId(Uuid::from_u64_pair(6, seconds));
        let rooms = [("https://parked.example".to_owned(), 0)].into();
        let now = at(i64::try_from(seconds).unwrap());
        let until = now + Duration::from_secs(45);
        let claim = ClaimDeliveries {
            lease_id,
            limit,
            bytes: usize::MAX,
            retries,
            per_origin: 4,
            rooms,
            from: String::new(),
            now,
            until,
        };
        let mut taken = backend.storage.claim_deliveries(claim).await.unwrap().deliveries;
        taken.sort_by(|a, b| a.origin.cmp(&b.origin));
        taken
    };
    let first = claim(10, 10, 10).await;
    let origins: Vec<_> = first.iter().map(|it| it.origin.as_str()).collect();
    let busy = ["https://busy.example"; 4];
    let expected: Vec<_> = ["https://a.example"].into_iter().chain(busy).chain(["https://z.example"]).collect();
    assert_eq!(origins, expected, "though the others are far behind in the queue");

    // What failed before has no room: only first attempts are taken.
    for delivery in &first {
        backend.storage.record_attempt(result(delivery, 11, NextStep::RetryAt(at(12)))).await.unwrap();
    }
    let new = claim(0, 20, 20).await;
    assert!(new.iter().all(|it| it.attempt == 1));
    assert_eq!(new.len(), 4, "what is new at the busy one does not wait behind what is tried again");
    // The same when there is some room for retries, and more of them than that.
    for delivery in &new {
        backend.storage.record_attempt(result(delivery, 21, NextStep::RetryAt(at(12)))).await.unwrap();
    }
    let mixed: Vec<_> = claim(1, 8, 30).await.into_iter().filter(|it| it.origin == busy[0]).collect();
    let retries = mixed.iter().filter(|it| it.attempt > 1).count();
    assert_eq!((retries <= 1, mixed.len()), (true, 4), "{mixed:?}");
}

#[tokio::test]
async fn many_receivers_without_room_are_passed_by_some_at_a_time() {
    let backend = Backend::new().await;
    let names: Vec<_> = (0..450).map(|n| format!("https://r{n:03}.example")).collect();
    ended_runs(&backend, names.iter().map(String::as_str)).await;
    let parked: BTreeMap<_, _> = names[..449].iter().map(|name| (name.clone(), 0)).collect();
    let (mut from, mut rounds) = (String::new(), 0);
    let taken = loop {
        rounds += 1;
        let lease_id = LeaseId(Uuid::from_u64_pair(7, rounds));
        let (rooms, now, until) = (parked.clone(), at(10), at(55));
        let claim =
            ClaimDeliveries { lease_id, limit: 8, bytes: 9999, retries: 8, per_origin: 4, rooms, from, now, until };
        let claimed = backend.storage.claim_deliveries(claim).await.unwrap();
        match claimed.more {
            Some(more) if claimed.deliveries.is_empty() => from = more,
            _ => break claimed.deliveries,
        }
    };
    assert_eq!((taken.len(), taken[0].origin.as_str()), (1, "https://r449.example"));
    assert!((2..=4).contains(&rounds), "{rounds}");
}
