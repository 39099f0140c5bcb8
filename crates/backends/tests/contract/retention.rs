//! Copies of threads, what threads occupy, and threads whose time is over.

use std::time::Duration;

use serde_json::json;
use threadyard_core::{
    checkpoints::{CheckpointQuery, PruneStrategy, PutCheckpoint, Writer},
    ids::ThreadId,
    json::Object,
    metadata_filter::MetadataFilter,
    retention::{SweptThreads, ThreadTtl},
    testkit::{new_run, sample_checkpoint},
    threads::{CopyThread, NewThread, ThreadPatch, ThreadStatus, ThreadStorage, ThreadValues, Usage},
};

use crate::{Backend, SEAL, at, run, success, thread};

async fn make(backend: &Backend, n: u64, ttl: impl Into<Option<ThreadTtl>>) -> ThreadId {
    let new = NewThread { thread_id: thread(n), metadata: Object::new(), ttl: ttl.into(), now: at(0) };
    backend.storage.create_thread(new).await.unwrap();
    thread(n)
}

fn kept(seconds: u64, strategy: PruneStrategy) -> ThreadTtl {
    ThreadTtl { strategy, ttl: Duration::from_secs(seconds) }
}

async fn save(backend: &Backend, thread: ThreadId, ids: &[&str]) {
    let name = thread.to_string();
    for id in ids {
        let metadata = json!({ "source": "loop", "thread_id": name }).to_string().into();
        let put = PutCheckpoint { metadata, ..sample_checkpoint(&name, id, None) };
        backend.storage.put_checkpoint(Writer::Call, put).await.unwrap();
    }
}

/// Saves a chain in which each checkpoint whose flag is set has a delta channel without a snapshot.
async fn save_chain(backend: &Backend, thread: ThreadId, chain: &[(&str, bool)]) {
    let name = thread.to_string();
    let mut parent = None;
    for (id, open) in chain {
        let counters = if *open { json!({ "log": [1, 1] }) } else { json!({}) };
        let metadata = json!({ "source": "loop", "run_id": id, "counters_since_delta_snapshot": counters });
        let put = PutCheckpoint { metadata: metadata.to_string().into(), ..sample_checkpoint(&name, id, parent) };
        backend.storage.put_checkpoint(Writer::Call, put).await.unwrap();
        parent = Some(*id);
    }
}

#[tokio::test]
async fn what_a_delta_channel_is_made_from_is_kept() {
    let backend = Backend::new().await;
    let chain = [("1", false), ("2", false), ("3", true), ("4", true)];
    let pruned = make(&backend, 1, None).await;
    save_chain(&backend, pruned, &chain).await;
    backend.storage.prune_checkpoints(vec![pruned.to_string()], PruneStrategy::KeepLatest).await.unwrap();
    assert_eq!(checkpoints(&backend, pruned).await, ["4", "3", "2"]);

    let forgotten = make(&backend, 2, None).await;
    save_chain(&backend, forgotten, &chain).await;
    for (run, left) in [("1", vec!["4", "3", "2"]), ("3", vec!["4", "3", "2"]), ("4", vec!["3", "2"]), ("3", vec!["2"])]
    {
        backend.storage.delete_run_checkpoints(vec![run.into()]).await.unwrap();
        assert_eq!(checkpoints(&backend, forgotten).await, left, "without {run}");
    }
}

async fn checkpoints(backend: &Backend, thread: ThreadId) -> Vec<String> {
    let query = CheckpointQuery { thread: Some(thread.to_string()), ..CheckpointQuery::default() };
    backend.storage.list_checkpoints(query).await.unwrap().into_iter().map(|it| it.id).collect()
}

#[tokio::test]
async fn a_copy_has_the_checkpoints_and_goes_its_own_way() {
    let backend = Backend::new().await;
    let source = make(&backend, 1, None).await;
    let patch = ThreadPatch {
        within: MetadataFilter::default(),
        metadata: Object::from_iter([("a".into(), 1.into())]),
        ttl: None,
    };
    backend.storage.patch_thread(source, patch, at(1)).await.unwrap();
    save(&backend, source, &["1", "2"]).await;
    let copy = backend
        .storage
        .copy_thread(CopyThread {
            source,
            within: MetadataFilter::default(),
            target: thread(2),
            metadata: Object::new(),
            now: at(5),
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!((copy.thread_id, copy.status, copy.created_at), (thread(2), ThreadStatus::Idle, at(5)));
    assert_eq!(json!(copy.metadata), json!({ "a": 1 }));
    assert!(matches!(copy.values, ThreadValues::Unknown));
    assert_eq!(json!(copy).get("values"), None);
    assert_eq!(checkpoints(&backend, thread(2)).await, ["2", "1"]);
    let head = backend.storage.checkpoint(&thread(2).to_string(), "", None).await.unwrap().unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&head.metadata).unwrap();
    assert_eq!(metadata["thread_id"], thread(2).to_string());
    assert_eq!(head.blobs.len(), 1);
    save(&backend, source, &["3"]).await;
    backend.storage.delete_thread(source, MetadataFilter::default()).await.unwrap();
    assert_eq!(checkpoints(&backend, thread(2)).await, ["2", "1"]);
    assert!(
        backend
            .storage
            .copy_thread(CopyThread {
                source,
                within: MetadataFilter::default(),
                target: thread(3),
                metadata: Object::new(),
                now: at(6)
            })
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn what_a_thread_occupies_is_counted() {
    let backend = Backend::new().await;
    let id = make(&backend, 1, None).await;
    assert_eq!(backend.storage.thread_storage(id).await.unwrap(), Some(ThreadStorage::default()));
    save(&backend, id, &["1", "2"]).await;
    let used = backend.storage.thread_storage(id).await.unwrap().unwrap();
    assert_eq!((used.checkpoints.count, used.pending_writes), (2, Usage::default()));
    assert_eq!(used.channels, [("log".into(), Usage { count: 2, bytes: 4 + 2 * SEAL })]);
    assert!(used.checkpoints.bytes > 100);
    assert_eq!(backend.storage.thread_storage(thread(9)).await.unwrap(), None);
}

#[tokio::test]
async fn threads_whose_time_is_over_are_swept_a_few_at_a_time() {
    let backend = Backend::new().await;
    for n in 1..=3 {
        make(&backend, n, kept(10, PruneStrategy::Delete)).await;
    }
    make(&backend, 4, None).await;
    assert_eq!(backend.storage.sweep_threads(at(9), 10).await.unwrap(), SweptThreads::default());
    let first = backend.storage.sweep_threads(at(10), 2).await.unwrap();
    let second = backend.storage.sweep_threads(at(10), 2).await.unwrap();
    assert_eq!((first.deleted.len(), second.deleted.len()), (2, 1));
    assert_eq!(backend.storage.sweep_threads(at(1000), 2).await.unwrap(), SweptThreads::default());
    assert!(backend.storage.thread(thread(4)).await.unwrap().is_some());
}

#[tokio::test]
async fn the_newest_checkpoint_may_be_kept() {
    let backend = Backend::new().await;
    let id = make(&backend, 1, kept(10, PruneStrategy::KeepLatest)).await;
    save(&backend, id, &["1", "2", "3"]).await;
    let swept = backend.storage.sweep_threads(at(10), 10).await.unwrap();
    assert_eq!(swept, SweptThreads { deleted: vec![], pruned: vec![id] });
    assert_eq!(checkpoints(&backend, id).await, ["3"]);
    assert_eq!(backend.storage.sweep_threads(at(1000), 10).await.unwrap(), SweptThreads::default());
    // A change begins its time anew.
    backend.storage.patch_thread(id, ThreadPatch::default(), at(1000)).await.unwrap();
    assert_eq!(backend.storage.sweep_threads(at(1009), 10).await.unwrap(), SweptThreads::default());
    assert_eq!(backend.storage.sweep_threads(at(1010), 10).await.unwrap().pruned, [id]);
}

#[tokio::test]
async fn a_busy_thread_is_not_swept_and_its_run_begins_its_time_anew() {
    let backend = Backend::new().await;
    let id = make(&backend, 1, kept(10, PruneStrategy::Delete)).await;
    backend.storage.create_run(new_run(run(1), id, at(5))).await.unwrap();
    assert_eq!(backend.storage.sweep_threads(at(100), 10).await.unwrap(), SweptThreads::default());
    let claimed = backend.claim(1, at(100)).await.remove(0);
    assert_eq!(backend.storage.sweep_threads(at(200), 10).await.unwrap(), SweptThreads::default());
    backend.storage.finish_run(claimed.lease, success(at(200))).await.unwrap();
    assert_eq!(backend.storage.sweep_threads(at(209), 10).await.unwrap(), SweptThreads::default());
    assert_eq!(backend.storage.sweep_threads(at(210), 10).await.unwrap().deleted, [id]);
}

#[tokio::test]
async fn a_time_may_be_set_later_and_by_the_run_that_makes_the_thread() {
    let backend = Backend::new().await;
    let id = make(&backend, 1, None).await;
    let patch = ThreadPatch { ttl: Some(kept(10, PruneStrategy::Delete)), ..ThreadPatch::default() };
    backend.storage.patch_thread(id, patch, at(5)).await.unwrap();
    let mut new = new_run(run(1), thread(2), at(0));
    new.create_thread = Some(Object::new());
    new.thread_ttl = Some(kept(20, PruneStrategy::Delete));
    backend.storage.create_run(new).await.unwrap();
    let claimed = backend.claim(1, at(0)).await.remove(0);
    backend.storage.finish_run(claimed.lease, success(at(0))).await.unwrap();
    assert_eq!(backend.storage.sweep_threads(at(15), 10).await.unwrap().deleted, [id]);
    assert_eq!(backend.storage.sweep_threads(at(20), 10).await.unwrap().deleted, [thread(2)]);
}
