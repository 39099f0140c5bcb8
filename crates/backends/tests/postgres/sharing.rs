//! What several servers on one database do once, though each of them tries.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use threadyard_backends::PostgresStorage;
use threadyard_core::{
    assistants::{Assistant, AssistantPatch, Assistants, CreatedAssistant},
    checkpoints::PruneStrategy,
    crons::{CronTick, Crons},
    deliveries::{Deliveries, DeliveryQuery, DeliveryState},
    ids::{AssistantId, LeaseId, RecoveryId},
    items::{ItemAnswer, ItemOperation, ItemPut, Items},
    json::{Object, raw},
    metadata_filter::MetadataFilter,
    page::Window,
    retention::{DeliveryTimes, Retention, ThreadTtl},
    runs::{RunQuery, Runs},
    testkit::new_run,
    threads::{NewThread, Threads},
    webhook_keys::{MasterKey, WebhookKeys},
    webhooks::{AttemptResult, ClaimDeliveries, ClaimedDelivery, NextStep, Overdue, Webhooks},
};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{at, concurrency::two, contract::crons::cron, database::Database, run, thread};

type Servers = [Arc<PostgresStorage>; 2];

/// Has both servers do something several times, all at once.
async fn all_at_once<T: Send + 'static, F>(
    servers: &Servers,
    times: u64,
    work: impl Fn(Arc<PostgresStorage>, u64) -> F,
) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for n in 0..times {
        tasks.spawn(work(servers[usize::try_from(n % 2).unwrap()].clone(), n));
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_of_a_cron_makes_one_run() {
    let database = Database::new().await;
    let servers = two(&database).await;
    let new = NewThread { thread_id: thread(1), metadata: Object::new(), ttl: None, now: at(0) };
    servers[0].create_thread(new).await.unwrap();
    servers[0].create_cron(cron(1, Some(thread(1)), 60), MetadataFilter::default()).await.unwrap();
    for moment in 1..=5 {
        let fired = all_at_once(&servers, 8, |storage, n| async move {
            let due = storage.due_crons(at(60 * moment), 10).await.unwrap();
            let Some(cron) = due.crons.first() else { return false };
            let new = new_run(run(100 * moment.unsigned_abs() + n), thread(1), at(60 * moment));
            let next = Some(at(60 * (moment + 1)));
            let tick = CronTick { cron_id: cron.cron_id, at: at(60 * moment), next, run: Some(new) };
            storage.tick_cron(tick).await.unwrap().is_some()
        });
        assert_eq!(fired.await.into_iter().filter(|fired| *fired).count(), 1, "moment {moment}");
    }
    let query = RunQuery { thread_id: thread(1), status: None };
    assert_eq!(servers[1].search_runs(query, Window { limit: 100, offset: 0 }).await.unwrap().rows.len(), 5);
}

/// Deliveries that are due, to some origins.
const DELIVERIES: &str =
    "INSERT INTO delivery (id, run_id, thread_id, event, url, shown_url, origin, state, next_attempt_at,
        scheduled_from, created_at)
    SELECT 'msg_' || n, gen_random_uuid(), gen_random_uuid(), 'run.success', o, o, o, 'pending', t + n, t, t
    FROM generate_series(1, 300) AS n, LATERAL (
        SELECT 'https://' || n % 7 || '.example' AS o, 1767000000000000 AS t) AS it;
    INSERT INTO delivery_body (delivery, body) SELECT k, '{}' FROM delivery";

fn claim(lease: u64, seconds: i64) -> ClaimDeliveries {
    ClaimDeliveries {
        lease_id: LeaseId(Uuid::from_u64_pair(6, lease)),
        limit: 20,
        bytes: usize::MAX,
        retries: 10,
        per_origin: 5,
        rooms: BTreeMap::new(),
        from: String::new(),
        now: at(seconds),
        until: at(seconds + 45),
    }
}

fn delivered(held: &ClaimedDelivery, seconds: i64) -> AttemptResult {
    AttemptResult {
        id: held.id.clone(),
        lease_id: held.lease_id,
        attempt: held.attempt,
        at: at(seconds),
        status: Some(200),
        failure: None,
        next: NextStep::Delivered,
        not_before: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_never_share_a_delivery() {
    let database = Database::new().await;
    database.client().await.batch_execute(DELIVERIES).await.unwrap();
    let servers = two(&database).await;
    let sent = all_at_once(&servers, 6, |storage, sender| async move {
        let mut sent = Vec::new();
        // Who finds nothing while another is at it is told to look again.
        for round in 0.. {
            let claimed = storage.claim_deliveries(claim(1_000 * sender + round, 1)).await.unwrap();
            if claimed.deliveries.is_empty() && claimed.more.is_none() {
                return sent;
            }
            assert_eq!(claimed.lost, 0);
            for held in claimed.deliveries {
                assert!(storage.record_attempt(delivered(&held, 2)).await.unwrap());
                sent.push(held.id);
            }
        }
        sent
    });
    let sent: Vec<_> = sent.await.into_iter().flatten().collect();
    assert_eq!((sent.len(), sent.iter().collect::<HashSet<_>>().len()), (300, 300));
    let (delivery, attempts) = servers[0].delivery(sent[0].clone()).await.unwrap().unwrap();
    assert_eq!((delivery.state, attempts.len()), (DeliveryState::Delivered, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_was_replaced_records_nothing() {
    let database = Database::new().await;
    database.client().await.batch_execute(DELIVERIES).await.unwrap();
    let servers = two(&database).await;
    let [late, other] = &servers;
    let held = late.claim_deliveries(claim(1, 1)).await.unwrap().deliveries;
    let taken_over = other.claim_deliveries(ClaimDeliveries { per_origin: 20, ..claim(2, 50) }).await.unwrap();
    assert_eq!((held.len(), taken_over.deliveries.len(), taken_over.lost), (20, 20, 0), "what is new goes first");
    let overdue = Overdue { begun_before: at(1), now: at(60) };
    let given_up =
        all_at_once(&servers, 6, |storage, _| async move { storage.give_up_deliveries(overdue, 100).await.unwrap() });
    assert_eq!(given_up.await.into_iter().flatten().count(), 260, "what is on its way is not given up");
    let again = other.claim_deliveries(ClaimDeliveries { per_origin: 20, retries: 20, ..claim(3, 50) }).await.unwrap();
    assert_eq!((again.deliveries.len(), again.lost), (20, 20));
    assert!(!late.record_attempt(delivered(&held[0], 51)).await.unwrap());
    assert_eq!(late.skip_deliveries(at(52)).await.unwrap(), 40);
    assert!(!other.record_attempt(delivered(&again.deliveries[0], 53)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_recovered_and_swept_once() {
    let database = Database::new().await;
    database.client().await.batch_execute(DELIVERIES).await.unwrap();
    let servers = two(&database).await;
    servers[0].skip_deliveries(at(1)).await.unwrap();
    let recovery = RecoveryId(Uuid::from_u64_pair(7, 1));
    servers[0].begin_recovery(recovery, DeliveryQuery::default(), at(2)).await.unwrap();
    all_at_once(&servers, 4, |storage, _| async move {
        while storage.recovery(recovery).await.unwrap().unwrap().finished_at.is_none() {
            storage.recover_deliveries(20, at(3)).await.unwrap();
        }
    })
    .await;
    assert_eq!(servers[1].recovery(recovery).await.unwrap().unwrap().recovered, 300);
    let pending = DeliveryQuery { state: Some(DeliveryState::Pending), ..DeliveryQuery::default() };
    assert_eq!(servers[1].count_deliveries(pending).await.unwrap(), 300);
    servers[0].skip_deliveries(at(4)).await.unwrap();
    let swept = all_at_once(&servers, 6, |storage, _| async move {
        let before = DeliveryTimes { body: at(0), row: at(5) };
        storage.sweep_deliveries(before, 60).await.unwrap()
    });
    assert_eq!(
        swept.await.into_iter().sum::<u64>(),
        300 - servers[0].count_deliveries(DeliveryQuery::default()).await.unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_whose_time_is_over_is_swept_once() {
    let database = Database::new().await;
    let servers = two(&database).await;
    let ttl = Some(ThreadTtl { strategy: PruneStrategy::Delete, ttl: Duration::from_secs(10) });
    for n in 0..60 {
        let new = NewThread { thread_id: thread(n), metadata: Object::new(), ttl, now: at(0) };
        servers[0].create_thread(new).await.unwrap();
    }
    let swept =
        all_at_once(&servers, 6, |storage, _| async move { storage.sweep_threads(at(20), 20).await.unwrap().deleted });
    let mut swept: Vec<_> = swept.await.into_iter().flatten().collect();
    while let rest = servers[0].sweep_threads(at(20), 20).await.unwrap().deleted
        && !rest.is_empty()
    {
        swept.extend(rest);
    }
    assert_eq!((swept.len(), swept.iter().collect::<HashSet<_>>().len()), (60, 60));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_start_together_sign_with_one_key() {
    let database = Database::new().await;
    let servers = two(&database).await;
    let key = |n: u64| MasterKey([u8::try_from(n).unwrap(); 32]);
    let keys = all_at_once(&servers, 8, |storage, n| async move { storage.webhook_keys(key(n), at(0)).await.unwrap() });
    let keys = keys.await;
    assert_eq!((keys[0].len(), keys[0][0].version), (1, 1));
    assert!(keys.iter().all(|it| *it == keys[0]));
    let rotated = all_at_once(&servers, 4, |storage, n| async move {
        storage.rotate_webhook_key(key(10 + n), at(1), at(100)).await.unwrap().version
    });
    assert_eq!(rotated.await.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([2, 3, 4, 5]));
    assert_eq!(servers[1].webhook_keys(key(9), at(2)).await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_many_write_is_one_item() {
    let database = Database::new().await;
    let servers = two(&database).await;
    let put = |key: u64, n: u64, seconds: u64| {
        ItemOperation::Put(ItemPut {
            namespace: vec!["a".into(), "\0\"\\{}".into()],
            key: key.to_string(),
            value: Some(raw(&json!({ "n": n }))),
            ttl: (seconds > 0).then(|| Duration::from_secs(seconds)),
            embeddings: Vec::new(),
            within: MetadataFilter::default(),
        })
    };
    // In any order of keys, and while others read, delete and sweep what is over.
    all_at_once(&servers, 40, |storage, n| async move {
        let mut operations: Vec<_> = (0..10).map(|key| put(if n % 2 == 0 { key } else { 9 - key }, n, n % 3)).collect();
        let namespace = vec!["a".into(), "\0\"\\{}".into()];
        operations.push(ItemOperation::Get {
            namespace: namespace.clone(),
            key: "3".into(),
            refresh: true,
            visible: MetadataFilter::default(),
        });
        if n % 5 == 0 {
            let gone = ItemPut {
                namespace,
                key: "4".into(),
                value: None,
                ttl: None,
                embeddings: Vec::new(),
                within: MetadataFilter::default(),
            };
            operations.push(ItemOperation::Put(gone));
        }
        storage.apply_items(operations, at(1)).await.unwrap();
        storage.sweep_items(at(3), 10).await.unwrap();
    })
    .await;
    servers[0].apply_items((0..10).map(|key| put(key, 99, 0)).collect(), at(4)).await.unwrap();
    let get = |key: u64| ItemOperation::Get {
        namespace: vec!["a".into(), "\0\"\\{}".into()],
        key: key.to_string(),
        refresh: false,
        visible: MetadataFilter::default(),
    };
    let answers = servers[1].apply_items((0..10).map(get).collect(), at(5)).await.unwrap();
    for answer in answers {
        let ItemAnswer::Item(Some(item)) = answer else { panic!("{answer:?}") };
        assert_eq!((item.value.get(), item.namespace[1].as_str()), (r#"{"n":99}"#, "\0\"\\{}"));
    }
    let client = database.client().await;
    let count: i64 = client.query_one("SELECT count(*) FROM item", &[]).await.unwrap().get(0);
    assert_eq!(count, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assistant_is_made_once_and_its_versions_are_counted() {
    let database = Database::new().await;
    let servers = two(&database).await;
    let id = AssistantId(Uuid::from_u64_pair(4, 1));
    let assistant = move |n: u64| Assistant {
        assistant_id: id,
        graph_id: "echo".into(),
        config: Object::new(),
        context: Object::new(),
        metadata: Object::new(),
        name: n.to_string(),
        created_at: at(0),
        updated_at: at(0),
        version: 1,
        description: None,
    };
    let made = all_at_once(&servers, 6, |storage, n| async move {
        storage.register_assistants(vec![assistant(n)]).await.unwrap();
        matches!(storage.create_assistant(assistant(n)).await.unwrap(), CreatedAssistant::New(_))
    });
    assert!(made.await.into_iter().all(|made| !made));
    let versions = all_at_once(&servers, 10, |storage, n| async move {
        let patch = AssistantPatch { name: Some(n.to_string()), ..AssistantPatch::default() };
        storage.patch_assistant(id, patch, at(1)).await.unwrap().unwrap().version
    });
    assert_eq!(versions.await.into_iter().collect::<BTreeSet<_>>(), (2..=11).collect());
}
