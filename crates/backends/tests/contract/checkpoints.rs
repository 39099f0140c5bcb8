//! Checkpoints outside runs; their fencing is in `queue.rs`.

use bytes::Bytes;
use threadyard_core::{
    checkpoints::{Blob, CheckpointQuery, PruneStrategy, PutCheckpoint, PutWrites, Write, Writer},
    testkit::{new_run, sample_checkpoint},
};

use crate::{Backend, at, run};

fn write(index: i64, data: &'static [u8]) -> Write {
    Write {
        task: "t".into(),
        path: "p".into(),
        index,
        channel: "c".into(),
        kind: "msgpack".into(),
        data: Bytes::from_static(data),
    }
}

async fn save(backend: &Backend, thread: &str, ids: &[&str]) {
    let mut parent = None;
    for id in ids {
        backend.storage.put_checkpoint(Writer::Call, sample_checkpoint(thread, id, parent)).await.unwrap();
        parent = Some(*id);
    }
}

#[tokio::test]
async fn what_is_put_is_got_whatever_the_thread_is_called() {
    let backend = Backend::new().await;
    for thread in
        ["046b5dc7-2108-582c-9c6c-31d556d138f0", "046B5DC7-2108-582C-9C6C-31D556D138F0", "my own", "sixteen bytes ok"]
    {
        save(&backend, thread, &["1", "2"]).await;
        let put = sample_checkpoint(thread, "2", Some("1"));
        let newest = backend.storage.checkpoint(thread, "", None).await.unwrap().unwrap();
        assert_eq!((newest.thread.as_str(), newest.id.as_str(), newest.parent.as_deref()), (thread, "2", Some("1")));
        assert_eq!((newest.checkpoint, newest.metadata, newest.blobs), (put.checkpoint, put.metadata, put.blobs));
        assert_eq!(backend.storage.checkpoint(thread, "", Some("1")).await.unwrap().unwrap().id, "1");
        assert!(backend.storage.checkpoint(thread, "child", None).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn names_may_hold_any_character() {
    let backend = Backend::new().await;
    let (odd, other) = ("a\0b\u{ffff}c'\\\"é😀", "a\u{ffff}0b");
    for name in [odd, other] {
        let put = PutCheckpoint {
            ns: name.into(),
            parent: Some(name.into()),
            metadata: Bytes::from_static(br#"{"source":"\u0000\ud800","run_id":"\u0000"}"#),
            checkpoint: serde_json::to_vec(&serde_json::json!({ "channel_versions": { name: name } })).unwrap().into(),
            blobs: vec![Blob {
                channel: name.into(),
                version: name.into(),
                kind: name.into(),
                data: Bytes::from_static(&[0, 255]),
            }],
            ..sample_checkpoint(name, name, None)
        };
        let write = Write { task: name.into(), path: name.into(), channel: name.into(), ..write(0, b"\0") };
        let writes = PutWrites { thread: name.into(), ns: name.into(), id: name.into(), writes: vec![write.clone()] };
        backend.storage.put_checkpoint(Writer::Call, put.clone()).await.unwrap();
        backend.storage.put_writes(Writer::Call, writes).await.unwrap();
        let found = backend.storage.checkpoint(name, name, Some(name)).await.unwrap().unwrap();
        assert_eq!((found.thread.as_str(), found.id.as_str(), found.ns.as_str()), (name, name, name));
        assert_eq!((found.metadata, found.blobs, found.writes), (put.metadata, put.blobs, vec![write]));
    }
    backend.storage.copy_checkpoints(odd, "copy").await.unwrap();
    backend.storage.prune_checkpoints(vec![odd.into()], PruneStrategy::KeepLatest).await.unwrap();
    for thread in [odd, "copy"] {
        let found = backend.storage.checkpoint(thread, odd, None).await.unwrap().unwrap();
        assert_eq!((found.id.as_str(), found.blobs.len(), found.writes.len()), (odd, 1, 1));
    }
}

#[tokio::test]
async fn of_several_writes_to_one_place_those_stay_that_would_if_they_came_apart() {
    let backend = Backend::new().await;
    save(&backend, "t", &["1"]).await;
    let writes = vec![write(0, b"a"), write(-1, b"a"), write(0, b"b"), write(-1, b"b")];
    let put = PutWrites { thread: "t".into(), ns: String::new(), id: "1".into(), writes };
    backend.storage.put_writes(Writer::Call, put).await.unwrap();
    let found = backend.storage.checkpoint("t", "", None).await.unwrap().unwrap();
    assert_eq!(found.writes, [write(-1, b"b"), write(0, b"a")]);
}

#[tokio::test]
async fn the_first_write_stays_and_special_ones_are_replaced() {
    let backend = Backend::new().await;
    save(&backend, "t", &["1"]).await;
    for data in [b"a", b"b"] {
        let writes = vec![write(0, data), write(-1, data)];
        let put = PutWrites { thread: "t".into(), ns: String::new(), id: "1".into(), writes };
        backend.storage.put_writes(Writer::Call, put).await.unwrap();
    }
    let found = backend.storage.checkpoint("t", "", None).await.unwrap().unwrap();
    assert_eq!(found.writes, [write(-1, b"b"), write(0, b"a")]);
}

#[tokio::test]
async fn lists_are_newest_first_and_filtered() {
    let backend = Backend::new().await;
    save(&backend, "t", &["1", "2", "3"]).await;
    save(&backend, "other", &["9"]).await;
    let base = CheckpointQuery { thread: Some("t".into()), ..CheckpointQuery::default() };
    let source = |source: &str| [("source".to_owned(), source.into())].into_iter().collect();
    for (query, expected) in [
        (base.clone(), vec!["3", "2", "1"]),
        (CheckpointQuery { before: Some("3".into()), ..base.clone() }, vec!["2", "1"]),
        (CheckpointQuery { limit: Some(1), ..base.clone() }, vec!["3"]),
        (CheckpointQuery { filter: source("loop"), ..base.clone() }, vec!["3", "2", "1"]),
        (CheckpointQuery { filter: source("input"), ..base.clone() }, vec![]),
        (CheckpointQuery { ns: Some("x".into()), ..base }, vec![]),
        (CheckpointQuery::default(), vec!["9", "3", "2", "1"]),
    ] {
        let found = backend.storage.list_checkpoints(query).await.unwrap();
        assert_eq!(found.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn threads_are_copied_pruned_and_deleted() {
    let backend = Backend::new().await;
    save(&backend, "t", &["1", "2"]).await;
    backend.storage.copy_checkpoints("t", "copy").await.unwrap();
    let prune = |strategy| backend.storage.prune_checkpoints(vec!["t".into()], strategy);
    prune(PruneStrategy::KeepLatest).await.unwrap();
    let left = |thread: &str| {
        let query = CheckpointQuery { thread: Some(thread.into()), ..CheckpointQuery::default() };
        let storage = backend.storage.clone();
        async move {
            storage
                .list_checkpoints(query)
                .await
                .unwrap()
                .into_iter()
                .map(|it| (it.id, it.blobs.len()))
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(left("t").await, [("2".into(), 1)]);
    prune(PruneStrategy::Delete).await.unwrap();
    assert!(left("t").await.is_empty());
    assert_eq!(left("copy").await.len(), 2);
    backend.storage.delete_checkpoints("copy").await.unwrap();
    assert!(left("copy").await.is_empty());
}

#[tokio::test]
async fn checkpoints_are_deleted_by_the_run_that_their_metadata_name() {
    let backend = Backend::new().await;
    let named = |thread: &str, id: &str, run_id: &str| PutCheckpoint {
        metadata: Bytes::from(format!(r#"{{"source":"loop","run_id":"{run_id}"}}"#)),
        ..sample_checkpoint(thread, id, None)
    };
    for put in [named("t", "1", "first"), named("t", "2", "second"), sample_checkpoint("t", "3", None)] {
        backend.storage.put_checkpoint(Writer::Call, put).await.unwrap();
    }
    let thread_id = backend.thread(1).await;
    backend.storage.create_run(new_run(run(1), thread_id, at(0))).await.unwrap();
    let claimed = backend.claim(1, at(0)).await.remove(0);
    let (own, thread) = (claimed.run.run_id.to_string(), claimed.run.thread_id.to_string());
    for put in [named(&thread, "1", &own), named(&thread, "2", "first")] {
        backend.storage.put_checkpoint(Writer::Run(claimed.lease), put).await.unwrap();
    }
    backend.storage.copy_checkpoints(&thread, "copy").await.unwrap();
    let left = async |thread: &str| {
        let query = CheckpointQuery { thread: Some(thread.into()), ..CheckpointQuery::default() };
        let found = backend.storage.list_checkpoints(query).await.unwrap();
        found.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    backend.storage.delete_run_checkpoints(vec!["first".into()]).await.unwrap();
    assert_eq!((left("t").await, left(&thread).await), (vec!["3".into(), "2".into()], vec!["1".to_owned()]));
    backend.storage.delete_run_checkpoints(vec![own]).await.unwrap();
    assert!(left(&thread).await.is_empty());
    assert!(left("copy").await.is_empty());
}
