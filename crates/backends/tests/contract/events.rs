//! Kept events: what resumable runs said.

use bytes::Bytes;
use threadyard_core::{
    cancel::{CancelAction, CancelCause, CancelRequest, CancelRun},
    event_streaming::{BEGINNING, BLOCK, MARKER},
    ids::RunId,
    json::Object,
    metadata_filter::MetadataFilter,
    runs::{EndStatus, Ending, ExpireLeases, GivenBack, Lease, RunError, RunStatus},
    storage::StorageError,
    stream::StreamEvent,
    testkit::new_run,
    time::Timestamp,
};

use crate::{Backend, at, run, success, thread};

fn event(name: &str) -> StreamEvent {
    StreamEvent { name: name.into(), data: Bytes::from_static(br#"{"x":"\ud800"}"#) }
}

fn events(names: &[&str]) -> Vec<StreamEvent> {
    names.iter().map(|name| event(name)).collect()
}

async fn running(backend: &Backend, n: u64, resumable: bool) -> Lease {
    backend.thread(n).await;
    let mut new = new_run(run(n), thread(n), at(0));
    new.run.kwargs.resumable = resumable;
    backend.storage.create_run(new).await.unwrap();
    backend.claim(1, at(1)).await[0].lease
}

async fn kept(backend: &Backend, n: u64, after: u64) -> Vec<(u64, String)> {
    let kept = backend.storage.kept_events(run(n), after).await.unwrap();
    kept.into_iter().map(|(seq, event)| (seq, event.name.to_string())).collect()
}

fn named(names: &[(u64, &str)]) -> Vec<(u64, String)> {
    names.iter().map(|(seq, name)| (*seq, (*name).to_owned())).collect()
}

fn failure(at: Timestamp) -> Ending {
    let error = RunError { error: "ValueError".into(), message: "negative".into() };
    Ending {
        status: EndStatus::Error,
        error: Some(error),
        cause: None,
        values: None,
        thread: None,
        at,
        unsealed: false,
    }
}

#[tokio::test]
async fn what_was_said_is_there_after_a_restart_and_the_next_attempt_goes_on_behind_it() {
    let backend = Backend::new().await;
    let lease = running(&backend, 1, true).await;
    backend.storage.keep_events(lease, 1, events(&["metadata", "values"])).await.unwrap();
    backend.storage.keep_events(lease, 3, events(&["custom"])).await.unwrap();
    let backend = backend.reopen().await;
    assert_eq!(kept(&backend, 1, 0).await, named(&[(1, "metadata"), (2, "values"), (3, "custom")]));
    assert_eq!(kept(&backend, 1, 2).await, named(&[(3, "custom")]));
    assert!(kept(&backend, 1, 3).await.is_empty());
    assert!(kept(&backend, 1, u64::MAX).await.is_empty());
    assert_eq!(backend.storage.kept_events(run(1), 2).await.unwrap(), [(3, event("custom"))]);

    backend.storage.expire_leases(ExpireLeases { now: at(60), max_attempts: 3 }).await.unwrap();
    let again = &backend.claim(1, at(61)).await[0];
    assert_eq!((again.run.attempt, again.said), (2, 3));
}

#[tokio::test]
async fn only_who_holds_the_lease_of_a_resumable_run_adds_to_what_it_said() {
    let backend = Backend::new().await;
    let lost = running(&backend, 1, true).await;
    backend.storage.requeue_run(lost, GivenBack::Failed, at(2)).await.unwrap();
    let holder = backend.claim(1, at(3)).await[0].lease;
    assert_eq!(backend.storage.keep_events(lost, 1, events(&["late"])).await, Err(StorageError::LeaseLost));
    backend.storage.keep_events(holder, 1, events(&["metadata"])).await.unwrap();
    assert_eq!(kept(&backend, 1, 0).await, named(&[(1, "metadata")]));

    let other = running(&backend, 2, false).await;
    backend.storage.keep_events(other, 1, events(&["metadata"])).await.unwrap();
    assert!(kept(&backend, 2, 0).await.is_empty(), "it is not resumable");
}

#[tokio::test]
async fn a_run_that_fails_says_so_last_whoever_ends_it() {
    let backend = Backend::new().await;
    let lease = running(&backend, 1, true).await;
    backend.storage.keep_events(lease, 1, events(&["metadata"])).await.unwrap();
    backend.storage.finish_run(lease, failure(at(2))).await.unwrap();
    let last = &backend.storage.kept_events(run(1), 1).await.unwrap()[..];
    let data = Bytes::from_static(br#"{"error":"ValueError","message":"negative"}"#);
    assert_eq!(last, [(2, StreamEvent { name: "error".into(), data })]);

    let lease = running(&backend, 2, true).await;
    backend.storage.keep_events(lease, 1, events(&["metadata"])).await.unwrap();
    backend.storage.expire_leases(ExpireLeases { now: at(60), max_attempts: 1 }).await.unwrap();
    assert_eq!(kept(&backend, 2, 0).await, named(&[(1, "metadata"), (2, "error")]));
}

#[tokio::test]
async fn what_a_run_said_goes_with_it() {
    for way in ["deleted", "rolled back", "thread deleted"] {
        let backend = Backend::new().await;
        let lease = running(&backend, 1, true).await;
        backend.storage.keep_events(lease, 1, events(&["metadata"])).await.unwrap();
        match way {
            "deleted" => drop(backend.storage.delete_run(thread(1), run(1), MetadataFilter::default()).await.unwrap()),
            "rolled back" => {
                let request =
                    CancelRequest { action: CancelAction::Rollback, reason: "test".into(), cause: CancelCause::User };
                backend.storage.finish_run(lease, request.ending(at(2))).await.unwrap();
            }
            _ => drop(backend.storage.delete_thread(thread(1), MetadataFilter::default()).await.unwrap()),
        }
        // The next run may take the place of the one that is gone.
        running(&backend, 1, true).await;
        assert!(kept(&backend, 1, 0).await.is_empty(), "{way}");
    }
}

#[tokio::test]
async fn what_ended_runs_said_is_swept_and_stays_away() {
    let backend = Backend::new().await;
    for (n, ended) in [(1, Some(10)), (2, Some(11)), (3, Some(12)), (4, None)] {
        let lease = running(&backend, n, true).await;
        backend.storage.keep_events(lease, 1, events(&["metadata"])).await.unwrap();
        if let Some(ended) = ended {
            backend.storage.finish_run(lease, success(at(ended))).await.unwrap();
        }
    }
    let sweep = async |before, limit| backend.storage.sweep_events(at(before), limit).await.unwrap();
    assert_eq!(sweep(10, 10).await, 0);
    assert_eq!(sweep(12, 1).await, 1);
    assert!(kept(&backend, 1, 0).await.is_empty() && !kept(&backend, 2, 0).await.is_empty());
    assert_eq!((sweep(1000, 10).await, sweep(1000, 10).await), (2, 0));
    assert!(!kept(&backend, 4, 0).await.is_empty(), "it goes on");
}

#[tokio::test]
async fn long_events_come_in_pages() {
    let backend = Backend::new().await;
    let lease = running(&backend, 1, true).await;
    let long = StreamEvent { name: "custom".into(), data: vec![b'1'; 600_000].into() };
    backend.storage.keep_events(lease, 1, vec![long; 5]).await.unwrap();
    for (after, places) in [(0, vec![1, 2]), (2, vec![3, 4]), (4, vec![5])] {
        let page = kept(&backend, 1, after).await;
        assert_eq!(page.into_iter().map(|(seq, _)| seq).collect::<Vec<_>>(), places);
    }
}

async fn streaming(backend: &Backend, n: u64, on: u64) -> Lease {
    let mut new = new_run(run(n), thread(on), at(n.cast_signed()));
    new.run.kwargs.resumable = true;
    let marked = [(MARKER.to_owned(), true.into())].into_iter().collect::<Object>();
    new.run.kwargs.config.insert("configurable".into(), marked.into());
    backend.storage.create_run(new).await.unwrap();
    backend.claim(1, at(n.cast_signed() + 1)).await[0].lease
}

async fn told(backend: &Backend, n: u64, after: u64) -> Vec<RunId> {
    backend.storage.told_runs(thread(n), after).await.unwrap().into_iter().map(|run| run.run_id).collect()
}

#[tokio::test]
async fn runs_of_event_streaming_have_blocks_of_their_own_on_the_tape_of_their_thread() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    backend.thread(2).await;
    assert_eq!(backend.storage.tape_end(thread(1)).await.unwrap(), 0);
    assert_eq!(backend.storage.begin_block(thread(1)).await.unwrap(), 0);
    assert_eq!(backend.storage.tape_end(thread(1)).await.unwrap(), BLOCK);
    assert_eq!(backend.storage.tape_end(thread(9)).await.unwrap(), 0);
    assert_eq!(backend.storage.begin_block(thread(1)).await.unwrap(), BLOCK);
    let backend = backend.reopen().await;
    assert_eq!(backend.storage.begin_block(thread(1)).await.unwrap(), 2 * BLOCK);
    assert_eq!(backend.storage.begin_block(thread(2)).await.unwrap(), 0);
}

#[tokio::test]
async fn who_begins_to_read_a_thread_finds_what_goes_on_and_what_is_kept_behind_a_place() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    backend.thread(2).await;
    for (n, base) in [(1, 0), (2, BLOCK)] {
        let lease = streaming(&backend, n, 1).await;
        assert_eq!(told(&backend, 1, u64::MAX).await, [run(n)], "it goes on");
        backend.storage.keep_events(lease, base + 1, events(&["lifecycle", "metadata"])).await.unwrap();
        backend.storage.finish_run(lease, success(at(10))).await.unwrap();
    }
    let ordinary = new_run(run(3), thread(1), at(3));
    backend.storage.create_run(ordinary).await.unwrap();
    assert_eq!(told(&backend, 1, 0).await, [run(1), run(2)], "the pending one has not begun");
    assert_eq!(told(&backend, 1, 2).await, [run(1), run(2)], "the end of the first is at 3");
    assert_eq!(told(&backend, 1, 3).await, [run(2)]);
    assert!(told(&backend, 1, BLOCK + 3).await.is_empty());
    assert!(told(&backend, 2, 0).await.is_empty() && told(&backend, 9, 0).await.is_empty());
    backend.storage.sweep_events(at(1000), 10).await.unwrap();
    assert!(told(&backend, 1, 0).await.is_empty());
}

#[tokio::test]
async fn a_run_of_event_streaming_says_its_end_last_also_when_it_never_began() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    let lease = streaming(&backend, 1, 1).await;
    backend.storage.keep_events(lease, 7, events(&["lifecycle"])).await.unwrap();
    backend.storage.finish_run(lease, success(at(10))).await.unwrap();
    let last = backend.storage.kept_events(run(1), 7).await.unwrap();
    let [(8, event)] = &last[..] else { panic!("{last:?}") };
    let said: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
    assert!(event.data.starts_with(BEGINNING));
    assert_eq!(said["params"]["data"], serde_json::json!({ "event": "completed", "graph_name": "echo" }));

    let holder = streaming(&backend, 2, 1).await;
    let mut waiting = new_run(run(3), thread(1), at(20));
    waiting.run.kwargs = backend.storage.run(thread(1), run(1)).await.unwrap().unwrap().kwargs;
    backend.storage.create_run(waiting).await.unwrap();
    let request = CancelRequest { action: CancelAction::Interrupt, reason: "test".into(), cause: CancelCause::User };
    let within = MetadataFilter::default();
    let cancel = CancelRun { thread_id: thread(1), run_id: run(3), within, request, now: at(21) };
    backend.storage.cancel_run(cancel).await.unwrap();
    // It never began, and has a block of its own for its only word.
    assert_eq!(kept(&backend, 3, 0).await, named(&[(1, "lifecycle")]));
    let unopened = backend.storage.unopened_events(run(3), 0).await.unwrap();
    assert_eq!(
        unopened,
        backend.storage.kept_events(run(3), 0).await.unwrap(),
        "the server's own words are not encrypted"
    );
    let stands = backend.storage.unopened_run(run(3)).await.unwrap().map(|run| (run.thread_id, run.status));
    assert_eq!(stands, Some((thread(1), RunStatus::Interrupted)));
    assert_eq!(backend.storage.begin_block(thread(1)).await.unwrap(), BLOCK);
    assert_eq!(told(&backend, 1, 0).await.last(), Some(&run(3)));
    backend.storage.finish_run(holder, success(at(22))).await.unwrap();
}
