//! A storage with something of everything in it, and what is seen of that.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use threadyard_core::{
    agent_parts::Version,
    agent_tasks::TaskId,
    api_keys::{ApiKey, KeyDigest},
    assistants::{Assistant, AssistantPatch},
    checkpoints::{Blob, CheckpointQuery, PruneStrategy, PutCheckpoint, PutWrites, Write, Writer},
    crons::Cron,
    deliveries::DeliveryQuery,
    ids::{AssistantId, CronId, LeaseId, RecoveryId, RunId, ThreadId},
    items::{Embedding, ItemAnswer, ItemOperation, ItemPut, ItemSearch},
    json::{Object, RawObject, raw},
    metadata_filter::MetadataFilter,
    page::Window,
    push_configs::{KeptPushConfig, PushConfig},
    retention::ThreadTtl,
    runs::{ClaimRuns, ClaimedRun, EndStatus, Ending, RunQuery},
    sealing::SealingContext,
    storage::Storage,
    stream::StreamEvent,
    testkit::{new_run, sample_checkpoint},
    threads::{CopyThread, NewThread, ThreadQuery},
    time::Timestamp,
    webhook_keys::MasterKey,
    webhook_policy::WebhookHeaders,
    webhooks::{AttemptResult, ClaimDeliveries, ClaimedDelivery, NextStep},
};
use uuid::Uuid;

pub(crate) const ALL: Window = Window { limit: 1_000, offset: 0 };
const URL: &str = "https://user:pass@example.com/hook?token=secret";
/// What texts may hold that not every database can.
pub(crate) const ODD: &str = "a\0b\u{ffff}c\u{ffff}0'\\\"é😀";

pub(crate) fn thread(n: u64) -> ThreadId {
    ThreadId(Uuid::from_u64_pair(1, n))
}

pub(crate) fn run(n: u64) -> RunId {
    RunId(Uuid::from_u64_pair(2, n))
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp(1_767_000_000_000_000 + seconds * 1_000_000)
}

pub(crate) fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

/// Puts something of everything into a storage. Of the runs, one has ended, one is running and one is pending; of the
/// deliveries, one is settled, one is on its way and one waits.
pub(crate) async fn fill(storage: &dyn Storage) {
    storage.webhook_keys(MasterKey([1; 32]), at(0)).await.unwrap();
    storage.rotate_webhook_key(MasterKey([2; 32]), at(1), at(10_000_000)).await.unwrap();
    storage.create_api_key(api_key(), KeyDigest([3; 32])).await.unwrap();
    storage.note_use_of_api_key(&api_key().id, at(2), at(1)).await.unwrap();
    storage.revoke_api_key(&api_key().id, at(3)).await.unwrap();
    assistants(storage).await;
    threads(storage).await;
    runs(storage).await;
    checkpoints(storage).await;
    storage.create_cron(cron(), MetadataFilter::default()).await.unwrap();
    put_item(storage, &["a", ODD], ODD, Vec::new()).await;
}

fn api_key() -> ApiKey {
    ApiKey {
        id: "ty_1".into(),
        name: ODD.into(),
        identity: ODD.into(),
        scopes: vec!["user".into()],
        created_at: at(0),
        expires_at: Some(at(9)),
        revoked_at: None,
        last_used_at: None,
    }
}

async fn assistants(storage: &dyn Storage) {
    let assistant = Assistant {
        assistant_id: AssistantId(Uuid::from_u64_pair(4, 1)),
        graph_id: "echo".into(),
        config: Object::new(),
        context: Object::new(),
        metadata: object(json!({ "odd": ODD })),
        name: ODD.into(),
        created_at: at(0),
        updated_at: at(0),
        version: 1,
        description: Some(ODD.into()),
    };
    storage.create_assistant(assistant.clone()).await.unwrap();
    let patch = AssistantPatch { name: Some("another".into()), ..AssistantPatch::default() };
    storage.patch_assistant(assistant.assistant_id, patch, at(5)).await.unwrap();
}

async fn threads(storage: &dyn Storage) {
    for n in 1..=5 {
        let ttl = ThreadTtl { strategy: PruneStrategy::Delete, ttl: Duration::from_secs(1_000_000) };
        let metadata = object(json!({ "n": n, "odd": ODD, "none": null, "list": [1.0, 2e300] }));
        let new = NewThread { thread_id: thread(n), metadata, ttl: (n == 2).then_some(ttl), now: at(0) };
        storage.create_thread(new).await.unwrap();
    }
    storage
        .copy_thread(CopyThread {
            source: thread(5),
            within: MetadataFilter::default(),
            target: thread(6),
            metadata: Object::new(),
            now: at(1),
        })
        .await
        .unwrap();
}

/// Where another agent wants to be told of a run.
fn push_config() -> PushConfig {
    PushConfig {
        task: TaskId { thread_id: thread(5), run_id: run(5) },
        id: ODD.into(),
        url: URL.into(),
        headers: WebhookHeaders(vec![("x-token".into(), "secret".into())]),
        version: Version::V03,
    }
}

async fn runs(storage: &dyn Storage) {
    for n in 1..=3 {
        let mut new = new_run(run(n), thread(n), at(0));
        new.run.kwargs.webhook = Some(URL.into());
        new.run.kwargs.resumable = true;
        storage.create_run(new).await.unwrap();
    }
    for held in claim_runs(storage, at(1)).await {
        let event = |name: &str| StreamEvent { name: name.into(), data: Bytes::from_static(br#"{"x":"\ud800"}"#) };
        storage.keep_events(held.lease, 1, vec![event("metadata"), event(ODD)]).await.unwrap();
        let put = sample_checkpoint(&held.run.thread_id.to_string(), "1", None);
        storage.put_checkpoint(Writer::Run(held.lease), put).await.unwrap();
        storage.finish_run(held.lease, success(at(2))).await.unwrap();
    }
    for (nth, delivery) in claim_deliveries(storage, at(3)).await.into_iter().enumerate() {
        let next = [NextStep::Delivered, NextStep::RetryAt(at(10)), NextStep::Failed][nth];
        let result = AttemptResult {
            id: delivery.id,
            lease_id: delivery.lease_id,
            attempt: delivery.attempt,
            at: at(4),
            status: Some(500),
            failure: Some(ODD.into()),
            next,
            not_before: (nth == 1).then_some(at(20)),
        };
        storage.record_attempt(result).await.unwrap();
    }
    storage.begin_recovery(RecoveryId(Uuid::from_u64_pair(8, 1)), DeliveryQuery::default(), at(5)).await.unwrap();
    storage.create_run(new_run(run(4), thread(4), at(6))).await.unwrap();
    assert_eq!(claim_runs(storage, at(6)).await.len(), 1, "it goes on running");
    storage.create_run(new_run(run(5), thread(5), at(7))).await.unwrap();
    assert_eq!(storage.keep_push_config(push_config(), MetadataFilter::default()).await.unwrap(), KeptPushConfig::Done);
    assert_eq!(claim_deliveries(storage, at(11)).await.len(), 1, "it goes on being sent");
}

/// A thread whose messages grow, and one whose name is odd.
async fn checkpoints(storage: &dyn Storage) {
    let mut value = vec![0x90];
    for n in 0..40_u8 {
        value[0] = 0x90 | (n & 15);
        value.extend((0..400_u32).map(|byte| (byte * u32::from(n + 7) % 251) as u8));
        let blob = Blob {
            channel: "log".into(),
            version: format!("{n:03}"),
            kind: "msgpack".into(),
            data: value.clone().into(),
        };
        let checkpoint =
            format!(r#"{{"v":4,"id":"{n:03}","channel_values":{{}},"channel_versions":{{"log":"{n:03}"}}}}"#);
        let put = PutCheckpoint {
            checkpoint: checkpoint.into(),
            blobs: vec![blob],
            ..sample_checkpoint(&thread(1).to_string(), &format!("{n:03}"), None)
        };
        storage.put_checkpoint(Writer::Call, put).await.unwrap();
    }
    let metadata = json!({ "run_id": ODD, "counters_since_delta_snapshot": { "log": 1 } }).to_string().into();
    let checkpoint = json!({ "id": ODD, "channel_versions": { "log": ODD } }).to_string().into();
    let odd = PutCheckpoint { ns: ODD.into(), checkpoint, metadata, ..sample_checkpoint(ODD, ODD, Some(ODD)) };
    storage.put_checkpoint(Writer::Call, odd).await.unwrap();
    let write = |index, task: &str| Write {
        task: task.into(),
        path: ODD.into(),
        index,
        channel: ODD.into(),
        kind: "msgpack".into(),
        data: Bytes::from_static(&[0, 255]),
    };
    let writes = vec![write(-1, "t"), write(0, ODD)];
    let put = PutWrites { thread: ODD.into(), ns: ODD.into(), id: ODD.into(), writes };
    storage.put_writes(Writer::Call, put).await.unwrap();
}

fn cron() -> Cron {
    Cron {
        user: None,
        cron_id: CronId(Uuid::from_u64_pair(5, 1)),
        assistant_id: AssistantId(Uuid::from_u64_pair(4, 1)),
        thread_id: Some(thread(1)),
        on_run_completed: None,
        end_time: None,
        schedule: "* * * * *".into(),
        timezone: Some("Europe/Berlin".into()),
        enabled: true,
        created_at: at(0),
        updated_at: at(0),
        user_id: String::new(),
        next_run_date: Some(at(60)),
        metadata: object(json!({ "odd": ODD })),
        payload: RawObject::from_iter([("input".to_owned(), raw(&json!({ "x": ODD })))]),
        sealing: SealingContext::default(),
    }
}

pub(crate) async fn put_item(storage: &dyn Storage, namespace: &[&str], key: &str, embeddings: Vec<Embedding>) {
    let put = ItemPut {
        namespace: namespace.iter().map(ToString::to_string).collect(),
        key: key.into(),
        value: Some(raw(&json!({ "odd": ODD, "n": 1.0 }))),
        ttl: Some(Duration::from_secs(1_000_000)),
        embeddings,
        within: MetadataFilter::default(),
    };
    storage.apply_items(vec![ItemOperation::Put(put)], at(0)).await.unwrap();
}

pub(crate) fn success(at: Timestamp) -> Ending {
    Ending { status: EndStatus::Success, error: None, cause: None, values: None, thread: None, at, unsealed: false }
}

pub(crate) async fn claim_runs(storage: &dyn Storage, now: Timestamp) -> Vec<ClaimedRun> {
    let lease_id = LeaseId(Uuid::from_u64_pair(3, now.0.unsigned_abs()));
    let claim = ClaimRuns { lease_id, limit: 10, now, until: now + Duration::from_secs(30) };
    storage.claim_runs(claim).await.unwrap().runs
}

pub(crate) async fn claim_deliveries(storage: &dyn Storage, now: Timestamp) -> Vec<ClaimedDelivery> {
    let claim = ClaimDeliveries {
        lease_id: LeaseId(Uuid::from_u64_pair(6, now.0.unsigned_abs())),
        limit: 10,
        bytes: usize::MAX,
        retries: 10,
        per_origin: 10,
        rooms: BTreeMap::new(),
        from: String::new(),
        now,
        until: now + Duration::from_secs(45),
    };
    storage.claim_deliveries(claim).await.unwrap().deliveries
}

/// What a storage shows of everything that `fill` has put into it.
pub(crate) async fn seen(storage: &dyn Storage) -> Vec<String> {
    let id = AssistantId(Uuid::from_u64_pair(4, 1));
    let mut seen = vec![
        format!("{:?}", storage.webhook_keys(MasterKey([9; 32]), at(9)).await.unwrap()),
        format!("{:?}", storage.api_key("ty_1").await.unwrap().map(|(key, digest)| (key, digest.0))),
        json!(storage.assistant(id).await.unwrap()).to_string(),
        json!(storage.assistant_versions(id, Object::new(), ALL).await.unwrap()).to_string(),
        json!(storage.cron(CronId(Uuid::from_u64_pair(5, 1))).await.unwrap()).to_string(),
        json!(storage.recovery(RecoveryId(Uuid::from_u64_pair(8, 1))).await.unwrap()).to_string(),
        json!(storage.left_alone(at(9)).await.unwrap().len()).to_string(),
        (storage.push_configs(push_config().task).await.unwrap() == [push_config()]).to_string(),
    ];
    let tagged = ThreadQuery { metadata: object(json!({ "odd": ODD, "n": 2 })), ..ThreadQuery::default() };
    assert_eq!(storage.count_threads(tagged).await.unwrap(), 1, "threads are found by their tags");
    for n in 1..=6 {
        seen.push(json!(storage.thread(thread(n)).await.unwrap()).to_string());
        seen.push(format!("{:?}", storage.kept_events(run(n), 0).await.unwrap()));
        let of_thread = RunQuery { thread_id: thread(n), status: None };
        seen.push(json!(storage.search_runs(of_thread, ALL).await.unwrap().rows).to_string());
        let checkpoints = CheckpointQuery { thread: Some(thread(n).to_string()), ..CheckpointQuery::default() };
        seen.push(format!("{:?}", storage.list_checkpoints(checkpoints).await.unwrap()));
    }
    seen.push(format!("{:?}", storage.checkpoint(ODD, ODD, Some(ODD)).await.unwrap().unwrap()));
    let mut deliveries = storage.search_deliveries(DeliveryQuery::default(), ALL).await.unwrap().rows;
    for delivery in &mut deliveries {
        // Whether it was on its way is not kept.
        delivery.next_attempt_at = None;
        seen.push(format!("{:?}", storage.delivery_body(delivery.delivery_id.clone()).await.unwrap()));
        let (_, attempts) = storage.delivery(delivery.delivery_id.clone()).await.unwrap().unwrap();
        seen.push(json!(attempts).to_string());
    }
    seen.push(json!(deliveries).to_string());
    let search = ItemSearch {
        prefix: vec!["a".into()],
        filter: Object::new(),
        query: None,
        window: ALL,
        refresh: false,
        visible: MetadataFilter::default(),
    };
    let ItemAnswer::Items(items) =
        storage.apply_items(vec![ItemOperation::Search(search)], at(9)).await.unwrap().remove(0)
    else {
        panic!("a search finds items");
    };
    seen.push(format!("{:?}", items.into_iter().map(|found| found.item).collect::<Vec<_>>()));
    seen
}
