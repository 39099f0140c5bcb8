//! What can't be encrypted or decrypted beside what can: checkpoints of other threads, other items, other events.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use threadyard_core::{
    checkpoints::{Checkpoints, Writer},
    events::Events,
    ids::LeaseId,
    items::{ItemAnswer, ItemOperation, ItemPut, ItemSearch, Items},
    json::{Object, raw},
    metadata_filter::MetadataFilter,
    page::Window,
    runs::{ClaimRuns, Runs},
    sealing::{scoped, within},
    storage::StorageError,
    stream::StreamEvent,
    testkit::{new_run, sample_checkpoint},
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{Sealed, at, handlers::Mood, run, tenant};

#[tokio::test]
async fn a_thread_whose_handlers_hang_holds_up_no_other() {
    let sealed = Sealed::new();
    sealed.handlers.are(Mood::Mute);
    let put = |of: &str, id: &str| {
        let put = sample_checkpoint(of, id, None);
        sealed.storage.put_checkpoint(Writer::Call, put)
    };
    let hanging = scoped(&tenant("lost"), || put("hangs", "1"));
    let behind = put("hangs", "2");
    let others = async {
        for n in 0..500 {
            put(&n.to_string(), "1").await.unwrap();
        }
    };
    timeout(Duration::from_mins(2), others).await.expect("they wait for the thread that hangs");
    assert!(sealed.inner.checkpoint("hangs", "", None).await.unwrap().is_none(), "it has its place behind the first");
    drop((hanging, behind));
}

#[tokio::test]
async fn puts_of_a_thread_keep_their_order() {
    let sealed = Sealed::new();
    let put = |n: u32| {
        let mut put = sample_checkpoint("thread", "1", None);
        put.metadata = Bytes::from(format!(r#"{{"step":{n}}}"#));
        sealed.storage.put_checkpoint(Writer::Call, put)
    };
    let slow = scoped(&tenant("slow"), || put(48));
    let quick = put(49);
    let (first, second) = tokio::join!(slow, quick);
    first.and(second).unwrap();
    let kept = sealed.storage.checkpoint("thread", "", None).await.unwrap().unwrap();
    assert_eq!(kept.metadata, r#"{"step":49}"#);
}

#[tokio::test]
async fn items_that_cannot_be_opened_hide_no_others() {
    let sealed = Sealed::new();
    let put = async |key: &str| {
        let namespace = vec!["notes".to_owned()];
        let (value, within) = (Some(raw(&json!({ "said": key }))), MetadataFilter::default());
        let put = ItemPut { namespace, key: key.into(), value, ttl: None, embeddings: Vec::new(), within };
        sealed.storage.apply_items(vec![ItemOperation::Put(put)], at(1)).await.unwrap();
    };
    within(tenant("lost"), put("lost")).await;
    let search = async || {
        let (window, visible) = (Window { limit: 10, offset: 0 }, MetadataFilter::default());
        let prefix = vec!["notes".to_owned()];
        let search = ItemSearch { prefix, filter: Object::new(), query: None, window, refresh: false, visible };
        let answer = sealed.storage.apply_items(vec![ItemOperation::Search(search)], at(2)).await?.remove(0);
        let ItemAnswer::Items(found) = answer else { panic!("{answer:?}") };
        Ok::<_, StorageError>(found.into_iter().map(|found| found.item.key).collect::<Vec<_>>())
    };
    sealed.handlers.are(Mood::Raise);
    assert!(matches!(search().await, Err(StorageError::Sealing(_))), "nothing is not what there is");
    put("other").await;
    assert_eq!(search().await.unwrap(), ["other"]);
    sealed.handlers.are(Mood::Well);
    assert_eq!(search().await.unwrap().len(), 2);
}

#[tokio::test]
async fn events_that_cannot_be_opened_keep_their_places() {
    let sealed = Sealed::new();
    let thread_id = sealed.thread(1, json!({})).await;
    let mut new = new_run(run(1), thread_id, at(0));
    new.run.kwargs.resumable = true;
    within(tenant("lost"), sealed.storage.create_run(new)).await.unwrap();
    let lease_id = LeaseId(Uuid::from_u64_pair(3, 1));
    let claim = ClaimRuns { lease_id, limit: 1, now: at(1), until: at(1) + Duration::from_secs(30) };
    let lease = sealed.storage.claim_runs(claim).await.unwrap().runs[0].lease;
    let said = |n: u64| vec![StreamEvent::of("values", &json!({ "n": n }))];
    sealed.storage.keep_events(lease, 1, said(1)).await.unwrap();
    within(tenant("lost"), sealed.storage.keep_events(lease, 2, said(2))).await.unwrap();
    sealed.storage.keep_events(lease, 3, said(3)).await.unwrap();
    sealed.handlers.are(Mood::Raise);
    let kept = sealed.storage.kept_events(run(1), 0).await.unwrap();
    let read: Vec<_> =
        kept.iter().map(|(place, event)| (*place, serde_json::from_slice::<Value>(&event.data).ok())).collect();
    assert_eq!(read, [(1, Some(json!({ "n": 1 }))), (2, None), (3, Some(json!({ "n": 3 })))]);
    assert!(kept[1].1.is_lost() && !kept[0].1.is_lost());
    let told = sealed.storage.told_runs(thread_id, 0).await.unwrap();
    assert_eq!(told.iter().map(|told| told.run_id).collect::<Vec<_>>(), [run(1)]);
    sealed.handlers.are(Mood::Gone);
    assert!(
        matches!(sealed.storage.kept_events(run(1), 0).await, Err(StorageError::Unavailable(_))),
        "it may come back"
    );
}
