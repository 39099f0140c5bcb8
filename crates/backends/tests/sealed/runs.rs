//! How runs begin and end whose words are encrypted.

use std::time::Duration;

use serde_json::json;
use threadyard_core::{
    events::Events,
    ids::{LeaseId, RunId},
    json::{Object, raw},
    runs::{ClaimRuns, ClaimedRuns, CreatedRun, EndStatus, Ending, ExpireLeases, NewLease, RunError, RunStatus, Runs},
    sealing::within,
    storage::Storage,
    stream::StreamEvent,
    testkit::new_run,
    threads::{ThreadOutcome, ThreadStatus, ThreadUpdate},
};
use uuid::Uuid;

use crate::{Sealed, at, handlers::Mood, run, tenant, thread};

const LEASE: Duration = Duration::from_secs(30);

impl Sealed {
    /// Puts a run of a tenant on a thread of its own.
    async fn enqueue(&self, n: u64, of: &str) {
        let thread_id = self.thread(n, json!({})).await;
        let mut new = new_run(run(n), thread_id, at(0));
        new.run.kwargs.input = Some(raw(&json!({ "said": "secret" })));
        within(tenant(of), self.storage.create_run(new)).await.unwrap();
    }

    async fn claim(&self, now: i64) -> ClaimedRuns {
        let lease_id = LeaseId(Uuid::from_u64_pair(3, now.unsigned_abs()));
        let claim = ClaimRuns { lease_id, limit: 10, now: at(now), until: at(now) + LEASE };
        self.storage.claim_runs(claim).await.unwrap()
    }

    async fn status(&self, n: u64) -> RunStatus {
        self.inner.run_by_id(run(n)).await.unwrap().unwrap().status
    }
}

/// What a graph raised, or handlers.
fn failure(message: &str, unsealed: bool) -> Ending {
    let error = RunError { error: "EncryptionError".into(), message: message.into() };
    let outcome = ThreadOutcome { interrupts: raw(&Object::new()), error: Some(raw(&error)) };
    let thread = Some(ThreadUpdate { status: ThreadStatus::Error, values: None, outcome, state: None });
    Ending { status: EndStatus::Error, error: Some(error), cause: None, values: None, thread, at: at(2), unsealed }
}

async fn errors(storage: &dyn Storage, n: u64) -> String {
    let run = storage.run_by_id(run(n)).await.unwrap().unwrap().error.unwrap();
    let thread = storage.thread(thread(n)).await.unwrap().unwrap().outcome.unwrap().error.unwrap();
    format!("{} {}", run.get(), thread.get())
}

#[tokio::test]
async fn what_a_graph_raises_is_encrypted_whatever_it_calls_that() {
    let sealed = Sealed::new();
    for (n, unsealed) in [(1, false), (2, true)] {
        sealed.enqueue(n, "a").await;
        let held = sealed.claim(i64::try_from(n).unwrap()).await.runs.remove(0);
        sealed.storage.finish_run(held.lease, failure("secret", unsealed)).await.unwrap();
    }
    assert!(!errors(&*sealed.inner, 1).await.contains("secret"));
    assert_eq!(errors(&sealed.storage, 1).await.matches("secret").count(), 2);
    assert_eq!(errors(&*sealed.inner, 2).await.matches("secret").count(), 2, "the server's own words need no handlers");
}

#[tokio::test]
async fn a_class_that_looks_sealed_is_a_text_like_any_other() {
    let sealed = Sealed::new();
    sealed.enqueue(1, "a").await;
    let held = sealed.claim(1).await.runs.remove(0);
    let error = Some(RunError { error: "sealed~1:x.y".into(), message: String::new() });
    sealed.storage.finish_run(held.lease, Ending { error, ..failure("", false) }).await.unwrap();
    assert!(errors(&sealed.storage, 1).await.contains(r#""error":"sealed~1:x.y""#));
    assert_eq!(sealed.status(1).await, RunStatus::Error);
}

fn ids(claimed: &ClaimedRuns) -> Vec<RunId> {
    claimed.runs.iter().map(|claimed| claimed.run.run_id).collect()
}

#[tokio::test]
async fn who_looks_at_the_queue_waits_for_no_handler() {
    for mood in [Mood::Raise, Mood::Gone, Mood::Silent] {
        let sealed = Sealed::new();
        sealed.enqueue(1, "lost").await;
        sealed.enqueue(2, "a").await;
        sealed.handlers.are(mood);
        let claimed = sealed.claim(1).await;
        assert_eq!(ids(&claimed), [run(1), run(2)]);
        let contexts: Vec<_> = claimed.runs.iter().map(|claimed| claimed.sealing.clone()).collect();
        assert_eq!(contexts, [tenant("lost"), tenant("a")], "whose they are is known");
        let mut runs = claimed.runs.into_iter();
        let (lost, other) = (runs.next().unwrap(), runs.next().unwrap());
        let read = sealed.storage.open_claimed(other).await.unwrap();
        assert_eq!(read.run.kwargs.input.unwrap().get(), r#"{"said":"secret"}"#);
        assert!(read.run.kwargs.config.get("configurable").is_none_or(|it| it.get("__encryption_context__").is_none()));
        if !matches!(mood, Mood::Silent) {
            assert!(sealed.storage.open_claimed(lost.clone()).await.is_err());
        }
        sealed.handlers.are(Mood::Well);
        assert!(sealed.storage.open_claimed(lost).await.is_ok());
    }
}

#[tokio::test]
async fn who_asks_only_where_a_run_stands_waits_for_no_handler() {
    for mood in [Mood::Raise, Mood::Gone, Mood::Silent] {
        let sealed = Sealed::new();
        let mut new = new_run(run(1), sealed.thread(1, json!({})).await, at(0));
        new.run.kwargs.input = Some(raw(&json!({ "said": "secret" })));
        new.run.kwargs.resumable = true;
        within(tenant("lost"), sealed.storage.create_run(new)).await.unwrap();
        let lease = sealed.claim(1).await.runs.remove(0).lease;
        let said = StreamEvent { name: "values".into(), data: "\"secret\"".into() };
        within(tenant("lost"), sealed.storage.keep_events(lease, 1, vec![said])).await.unwrap();
        sealed.handlers.are(mood);
        let found = sealed.storage.unopened_run(run(1)).await.unwrap().unwrap();
        assert_eq!((found.thread_id, found.status), (thread(1), RunStatus::Running));
        let kept = sealed.storage.unopened_events(run(1), 0).await.unwrap();
        assert_eq!((kept.len(), kept[0].0), (1, 1));
        let words = [found.kwargs.input.unwrap().get().into(), String::from_utf8_lossy(&kept[0].1.data).into_owned()];
        assert!(words.iter().all(|word| !word.contains("secret")));
        assert!(sealed.storage.unopened_run(run(2)).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn ends_of_runs_are_told_also_when_one_of_them_cannot_be_decrypted() {
    for mood in [Mood::Raise, Mood::Gone, Mood::Silent] {
        let sealed = Sealed::new();
        sealed.enqueue(1, "lost").await;
        sealed.enqueue(2, "a").await;
        assert_eq!(sealed.claim(1).await.runs.len(), 2);
        sealed.handlers.are(mood);
        let expired = sealed.storage.expire_leases(ExpireLeases { now: at(99), max_attempts: 1 }).await.unwrap();
        let ended = expired.ended.iter().map(|(run, ending)| (run.run_id, ending.status));
        assert_eq!(ended.collect::<Vec<_>>(), [(run(1), EndStatus::Error), (run(2), EndStatus::Error)]);
    }
}

#[tokio::test]
async fn a_run_is_made_whether_or_not_it_can_be_decrypted() {
    for mood in [Mood::Raise, Mood::Gone, Mood::Silent] {
        let sealed = Sealed::new();
        let thread_id = sealed.thread(1, json!({})).await;
        sealed.handlers.are(mood);
        let mut new = new_run(run(1), thread_id, at(0));
        new.run.metadata.insert("said".into(), "secret".into());
        let lease_id = LeaseId(Uuid::from_u64_pair(3, 1));
        new.claim = Some(NewLease { lease_id, until: at(0) + LEASE });
        let created = within(tenant("lost"), sealed.storage.create_run(new)).await.unwrap();
        let CreatedRun::Created { claimed: Some(claimed), .. } = created else { panic!("{created:?}") };
        assert_eq!(claimed.sealing, tenant("lost"));
        sealed.handlers.are(Mood::Well);
        let opened = sealed.storage.open_claimed(*claimed).await.unwrap();
        assert_eq!(opened.run.metadata["said"], "secret");
    }
}
