//! A storage that was told a secret wherever users can say something, and what is read of that.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use threadyard_core::{
    access::User,
    agent_parts::Version,
    agent_tasks::TaskId,
    checkpoints::{Blob, CheckpointQuery, PruneStrategy, PutCheckpoint, PutWrites, Write, Writer},
    crons::Cron,
    ids::{AssistantId, CronId, LeaseId, RunId, ThreadId},
    items::{ItemAnswer, ItemOperation, ItemPut, ItemSearch},
    json::{Object, RawObject, raw},
    metadata_filter::MetadataFilter,
    page::Window,
    push_configs::PushConfig,
    runs::{ClaimRuns, EndStatus, Ending, RunError},
    sealing::SealingContext,
    storage::Storage,
    stream::StreamEvent,
    testkit::{new_run, sample_checkpoint},
    threads::{
        CopyThread, NewThread, SavedState, ThreadOutcome, ThreadQuery, ThreadStatus, ThreadUpdate, ThreadValues,
    },
    time::Timestamp,
    webhook_policy::WebhookHeaders,
    webhooks::ClaimDeliveries,
};
use uuid::Uuid;

/// What nobody may find who has the database and not the key.
pub(crate) const SECRET: &str = "the moon is made of green cheese";
const ALL: Window = Window { limit: 100, offset: 0 };

fn thread(n: u64) -> ThreadId {
    ThreadId(Uuid::from_u64_pair(1, n))
}

fn run() -> RunId {
    RunId(Uuid::from_u64_pair(2, 1))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp(1_767_000_000_000_000 + seconds * 1_000_000)
}

fn said() -> Value {
    json!({ "said": SECRET })
}

fn object(value: Value) -> Object {
    if let Value::Object(object) = value { object } else { panic!("{value} is no object") }
}

/// Tells the storage the secret in every way.
pub(crate) async fn confide(storage: &dyn Storage) {
    let new = NewThread { thread_id: thread(1), metadata: Object::new(), ttl: None, now: at(0) };
    storage.create_thread(new).await.unwrap();
    let mut new = new_run(run(), thread(1), at(1));
    new.run.kwargs.input = Some(raw(&said()));
    new.run.kwargs.webhook = Some(format!("https://a.example/hook?token={}", SECRET.replace(' ', "+")));
    new.run.kwargs.resumable = true;
    new.thread_config = object(json!({ "configurable": said() }));
    storage.create_run(new).await.unwrap();
    let config = PushConfig {
        task: TaskId { thread_id: thread(1), run_id: run() },
        id: "1".into(),
        url: format!("https://b.example/{}", SECRET.replace(' ', "-")),
        headers: WebhookHeaders(vec![("x-token".into(), SECRET.into())]),
        version: Version::V03,
    };
    storage.keep_push_config(config, MetadataFilter::default()).await.unwrap();
    let claim = ClaimRuns { lease_id: LeaseId(Uuid::from_u64_pair(3, 1)), limit: 1, now: at(2), until: at(60) };
    let held = storage.claim_runs(claim).await.unwrap().runs.remove(0);
    let event = StreamEvent { name: "values".into(), data: said().to_string().into() };
    storage.keep_events(held.lease, 1, vec![event]).await.unwrap();
    checkpoints(storage, Writer::Run(held.lease)).await;
    let ending = Ending {
        status: EndStatus::Error,
        error: Some(RunError { error: "ValueError".into(), message: SECRET.into() }),
        cause: None,
        values: Some(raw(&said())),
        thread: Some(left()),
        at: at(3),
        unsealed: false,
    };
    storage.finish_run(held.lease, ending).await.unwrap();
    put_item(storage, "k").await;
    storage.create_cron(cron(), MetadataFilter::default()).await.unwrap();
}

fn left() -> ThreadUpdate {
    let values = raw(&said());
    let state = format!(r#"{{"values":{},"next":["{SECRET}"]}}"#, values.get());
    ThreadUpdate {
        status: ThreadStatus::Error,
        values: Some(values),
        outcome: ThreadOutcome { interrupts: raw(&json!({ "t": [said()] })), error: Some(raw(&said())) },
        state: Some(SavedState { state: serde_json::from_str(&state).unwrap(), revision: "1".into() }),
    }
}

/// Two checkpoints, of whose values one grows.
async fn checkpoints(storage: &dyn Storage, writer: Writer) {
    let name = thread(1).to_string();
    let mut value = Vec::new();
    for n in 1..=3_u8 {
        value.extend_from_slice(&SECRET.as_bytes().repeat(30));
        value.extend((0..600_u16).map(|byte| (byte.wrapping_mul(u16::from(n) + 6) % 251) as u8));
        let id = format!("{n:03}");
        let blob =
            Blob { channel: "log".into(), version: id.clone(), kind: "bytes".into(), data: value.clone().into() };
        let checkpoint = json!({
            "v": 4, "id": id, "channel_values": { "short": SECRET }, "channel_versions": { "log": id, "short": "1" },
        });
        let metadata = json!({ "source": "loop", "step": n, "said": SECRET, "thread_id": name });
        let put = PutCheckpoint {
            checkpoint: checkpoint.to_string().into(),
            metadata: metadata.to_string().into(),
            blobs: vec![blob],
            ..sample_checkpoint(&name, &id, None)
        };
        storage.put_checkpoint(writer, put).await.unwrap();
    }
    let write = Write {
        task: "t".into(),
        path: String::new(),
        index: 0,
        channel: "log".into(),
        kind: "bytes".into(),
        data: Bytes::from_static(SECRET.as_bytes()),
    };
    let put = PutWrites { thread: name, ns: String::new(), id: "003".into(), writes: vec![write] };
    storage.put_writes(writer, put).await.unwrap();
}

fn cron() -> Cron {
    let user: User = serde_json::from_value(json!({ "identity": "ann", "permissions": [], "said": SECRET })).unwrap();
    Cron {
        user: Some(user),
        cron_id: CronId(Uuid::from_u64_pair(5, 1)),
        assistant_id: AssistantId(Uuid::from_u64_pair(4, 1)),
        thread_id: None,
        on_run_completed: None,
        end_time: None,
        schedule: "* * * * *".into(),
        timezone: None,
        enabled: true,
        created_at: at(0),
        updated_at: at(0),
        user_id: String::new(),
        next_run_date: Some(at(60)),
        metadata: Object::new(),
        payload: RawObject::from_iter([("input".to_owned(), raw(&said()))]),
        sealing: SealingContext::default(),
    }
}

pub(crate) async fn put_item(storage: &dyn Storage, key: &str) {
    let put = ItemPut {
        namespace: vec!["memories".into()],
        key: key.into(),
        value: Some(raw(&said())),
        ttl: None,
        embeddings: Vec::new(),
        within: MetadataFilter::default(),
    };
    storage.apply_items(vec![ItemOperation::Put(put)], at(4)).await.unwrap();
}

/// How many items there are that say the secret.
pub(crate) async fn items(storage: &dyn Storage) -> threadyard_core::storage::Result<usize> {
    let search = ItemSearch {
        prefix: vec!["memories".into()],
        filter: object(said()),
        query: None,
        window: ALL,
        refresh: false,
        visible: MetadataFilter::default(),
    };
    match storage.apply_items(vec![ItemOperation::Search(search)], at(9)).await?.remove(0) {
        ItemAnswer::Items(items) => Ok(items.len()),
        other => panic!("a search finds items: {other:?}"),
    }
}

/// Finds the secret wherever it was told, and by what it says.
pub(crate) async fn remember(storage: &dyn Storage) {
    let kept = storage.thread(thread(1)).await.unwrap().unwrap();
    let ThreadValues::Known(values) = &kept.values else { panic!("{kept:?}") };
    let outcome = kept.outcome.as_ref().unwrap();
    let head = storage.thread_head(thread(1)).await.unwrap().unwrap().state.unwrap();
    let kept_run = storage.run(thread(1), run()).await.unwrap().unwrap();
    let events = storage.kept_events(run(), 0).await.unwrap();
    let checkpoint = storage.checkpoint(&thread(1).to_string(), "", None).await.unwrap().unwrap();
    let config = storage.push_configs(TaskId { thread_id: thread(1), run_id: run() }).await.unwrap().remove(0);
    let cron = storage.cron(CronId(Uuid::from_u64_pair(5, 1))).await.unwrap().unwrap();
    for (where_it_is, read) in [
        ("values", values.get().to_owned()),
        ("interrupts", outcome.interrupts.get().to_owned()),
        ("error", outcome.error.as_ref().unwrap().get().to_owned()),
        ("config", json!(kept.config).to_string()),
        ("state", head.state.get().to_owned()),
        ("input", kept_run.kwargs.input.unwrap().get().to_owned()),
        ("error of the run", kept_run.error.unwrap().get().to_owned()),
        ("events", format!("{:?}", events[0].1.data)),
        ("last event", format!("{:?}", events[1].1.data)),
        ("checkpoint", format!("{:?}", checkpoint.checkpoint)),
        ("metadata", format!("{:?}", checkpoint.metadata)),
        ("blob", format!("{:?}", checkpoint.blobs[0].data)),
        ("write", format!("{:?}", checkpoint.writes[0].data)),
        ("url of a push config", config.url.replace('-', " ")),
        ("headers of a push config", config.headers.0[0].1.clone()),
        ("payload", cron.payload["input"].get().to_owned()),
        ("user", json!(cron.user).to_string()),
    ] {
        assert!(read.contains(SECRET), "{where_it_is}: {read}");
    }
    assert_eq!(checkpoint.blobs[0].data.len(), 3 * (600 + 30 * SECRET.len()));
    let of_values = ThreadQuery { values: object(said()), ..ThreadQuery::default() };
    assert_eq!(storage.count_threads(of_values).await.unwrap(), 1);
    let of_metadata = CheckpointQuery { filter: object(said()), ..CheckpointQuery::default() };
    assert_eq!(storage.list_checkpoints(of_metadata).await.unwrap().len(), 3);
    assert_eq!(items(storage).await.unwrap(), 1);
}

/// Sends what the end of the run gave rise to.
pub(crate) async fn tell(storage: &dyn Storage) {
    let claim = ClaimDeliveries {
        lease_id: LeaseId(Uuid::from_u64_pair(6, 1)),
        limit: 10,
        bytes: usize::MAX,
        retries: 10,
        per_origin: 10,
        rooms: BTreeMap::new(),
        from: String::new(),
        now: at(5),
        until: at(5) + Duration::from_secs(45),
    };
    let told = storage.claim_deliveries(claim).await.unwrap().deliveries;
    assert!(!told.is_empty());
    for it in told {
        assert!(it.url.replace(['-', '+'], " ").contains(SECRET), "{}", it.url);
        assert!(String::from_utf8_lossy(&it.body).contains("run"), "{:?}", it.body);
        let shown = storage.delivery_body(it.id).await.unwrap().unwrap();
        assert_eq!(shown.as_bytes(), it.body);
    }
}

/// Copies the thread, prunes the original, and finds everything in the copy.
pub(crate) async fn copy(storage: &dyn Storage) {
    let copy = CopyThread {
        source: thread(1),
        within: MetadataFilter::default(),
        target: thread(2),
        metadata: Object::new(),
        now: at(6),
    };
    storage.copy_thread(copy).await.unwrap().unwrap();
    let name = thread(1).to_string();
    storage.prune_checkpoints(vec![name.clone()], PruneStrategy::KeepLatest).await.unwrap();
    for (name, ids) in [(thread(2).to_string(), vec!["001", "002", "003"]), (name, vec!["003"])] {
        for id in ids {
            let found = storage.checkpoint(&name, "", Some(id)).await.unwrap().unwrap();
            let metadata: Value = serde_json::from_slice(&found.metadata).unwrap();
            assert_eq!((&metadata["thread_id"], &metadata["said"]), (&json!(name), &json!(SECRET)));
            let grown: usize = id.parse().unwrap();
            assert_eq!(found.blobs[0].data.len(), grown * (600 + 30 * SECRET.len()), "{name} {id}");
        }
    }
}
