//! What callers may see and touch: filters on metadata hold for every search and every change.

use serde_json::json;
use threadyard_core::{
    access::User,
    assistants::{Assistant, AssistantPatch, AssistantQuery, AssistantSort},
    cancel::{CancelAction, CancelCause, CancelRequest, CancelRun, CancelledRun},
    crons::CronQuery,
    ids::AssistantId,
    json::{Object, Value, raw},
    metadata_filter::MetadataFilter,
    page::{Order, Window},
    runs::CreatedRun,
    testkit::new_run,
    threads::{
        CopyThread, NewThread, ThreadOutcome, ThreadPatch, ThreadQuery, ThreadStatus, ThreadUpdate, UpdatedThread,
    },
};
use uuid::Uuid;

use crate::{Backend, at, contract::crons::cron, run, thread};

const WINDOW: Window = Window { limit: 10, offset: 0 };

fn object(value: Value) -> Object {
    if let Value::Object(object) = value { object } else { Object::new() }
}

fn filter(written: Value) -> MetadataFilter {
    MetadataFilter::read(&object(written)).unwrap()
}

fn owner(name: &str) -> MetadataFilter {
    filter(json!({ "owner": name }))
}

/// What the things that are looked for are like, in the order of their numbers.
fn metadata() -> Vec<Object> {
    [
        json!({"owner": "ann", "tags": ["x", "y"], "n": 1, "deep": {"a": 1}}),
        json!({"owner": "bob", "tags": ["x"], "n": 1.0}),
        json!({"owner": "ann", "tags": "x", "nul": "a\0b"}),
        json!({}),
    ]
    .into_iter()
    .map(object)
    .collect()
}

/// Filters, and the numbers of what they admit.
fn filters() -> Vec<(MetadataFilter, Vec<u64>)> {
    [
        (json!({}), vec![1, 2, 3, 4]),
        (json!({"owner": "ann"}), vec![1, 3]),
        (json!({"owner": {"$eq": "bob"}}), vec![2]),
        (json!({"owner": null}), vec![]),
        (json!({"tags": {"$contains": "x"}}), vec![1, 2]),
        (json!({"tags": {"$contains": ["y", "x"]}}), vec![1]),
        (json!({"tags": ["x"]}), vec![2]),
        (json!({"deep": {"a": 1}}), vec![1]),
        (json!({"n": 1}), vec![1]),
        (json!({"nul": "a\0b"}), vec![3]),
        (json!({"$or": [{"owner": "bob"}, {"tags": {"$contains": "y"}}]}), vec![1, 2]),
        (json!({"$or": [{"owner": "bob"}, {"$and": [{"owner": "ann"}, {"tags": "x"}]}]}), vec![2, 3]),
        (json!({"$or": []}), vec![]),
        (json!({"owner": "ann", "$or": [{"n": 1}]}), vec![1]),
        (json!({"$and": [{"owner": "ann"}, {"owner": "bob"}]}), vec![]),
    ]
    .into_iter()
    .map(|(written, admitted)| (filter(written), admitted))
    .collect()
}

async fn threads(backend: &Backend) {
    for (n, metadata) in (1..).zip(metadata()) {
        let new = NewThread { thread_id: thread(n), metadata, ttl: None, now: at(0) };
        backend.storage.create_thread(new).await.unwrap();
    }
}

#[tokio::test]
async fn searches_and_counts_of_threads_show_what_the_filter_admits() {
    let backend = Backend::new().await;
    threads(&backend).await;
    for (filter, admitted) in filters() {
        for folded in [false, true] {
            let mut query = ThreadQuery { order: Order::Ascending, ..ThreadQuery::default() };
            query.visible = if folded { filter.clone().narrowing(&mut query.metadata) } else { filter.clone() };
            let found = backend.storage.search_threads(query.clone(), WINDOW).await.unwrap().rows;
            let mut found: Vec<_> = found.into_iter().map(|found| found.thread_id).collect();
            found.sort();
            assert_eq!(found, admitted.iter().map(|n| thread(*n)).collect::<Vec<_>>(), "{filter:?}");
            assert_eq!(backend.storage.count_threads(query).await.unwrap(), admitted.len() as u64, "{filter:?}");
        }
    }
    let narrowed = ThreadQuery { metadata: object(json!({"n": 1})), visible: owner("bob"), ..ThreadQuery::default() };
    assert_eq!(backend.storage.count_threads(narrowed).await.unwrap(), 0, "a filter only takes away");
}

#[tokio::test]
async fn pages_count_what_the_filter_admits() {
    let backend = Backend::new().await;
    threads(&backend).await;
    let query = ThreadQuery { visible: owner("ann"), ..ThreadQuery::default() };
    let page = backend.storage.search_threads(query.clone(), Window { limit: 1, offset: 0 }).await.unwrap();
    assert_eq!((page.rows.len(), page.more), (1, true));
    let page = backend.storage.search_threads(query, Window { limit: 1, offset: 1 }).await.unwrap();
    assert_eq!((page.rows.len(), page.more), (1, false));
}

#[tokio::test]
async fn others_threads_are_as_good_as_missing() {
    let backend = Backend::new().await;
    threads(&backend).await;
    let storage = &backend.storage;
    let patch = |within| ThreadPatch { within, metadata: object(json!({"seen": true})), ttl: None };
    assert!(storage.patch_thread(thread(1), patch(owner("bob")), at(1)).await.unwrap().is_none());
    assert!(storage.patch_thread(thread(1), patch(owner("ann")), at(1)).await.unwrap().is_some());

    let copy = |within| {
        let metadata = object(json!({"owner": "bob"}));
        CopyThread { source: thread(1), within, target: thread(9), metadata, now: at(2) }
    };
    assert!(storage.copy_thread(copy(owner("bob"))).await.unwrap().is_none());
    assert!(storage.thread(thread(9)).await.unwrap().is_none());
    let copied = storage.copy_thread(copy(owner("ann"))).await.unwrap().unwrap();
    assert_eq!((&copied.metadata["owner"], &copied.metadata["seen"]), (&json!("bob"), &json!(true)));
    let of_bob = ThreadQuery { metadata: object(json!({"owner": "bob"})), ..ThreadQuery::default() };
    assert_eq!(storage.count_threads(of_bob).await.unwrap(), 2, "the copy is found by its own metadata");

    let update = || ThreadUpdate {
        status: ThreadStatus::Interrupted,
        values: Some(raw(&json!({"a": 1}))),
        outcome: ThreadOutcome { interrupts: raw(&json!({})), error: None },
        state: None,
    };
    let updated = storage.update_thread(thread(1), owner("bob"), update(), at(3)).await.unwrap();
    assert_eq!(updated, UpdatedThread::Missing);
    assert_eq!(storage.thread(thread(1)).await.unwrap().unwrap().status, ThreadStatus::Idle);
    let updated = storage.update_thread(thread(1), owner("ann"), update(), at(3)).await.unwrap();
    assert_eq!(updated, UpdatedThread::Done);
    let missing = storage.update_thread(thread(7), owner("ann"), update(), at(3)).await.unwrap();
    assert_eq!(missing, UpdatedThread::Missing);

    assert!(storage.delete_thread(thread(1), owner("bob")).await.unwrap().is_none());
    assert!(storage.delete_thread(thread(1), owner("ann")).await.unwrap().is_some());
    assert!(storage.delete_thread(thread(1), owner("ann")).await.unwrap().is_none());
}

#[tokio::test]
async fn runs_are_made_and_stopped_on_admitted_threads_only() {
    let backend = Backend::new().await;
    threads(&backend).await;
    let storage = &backend.storage;
    for create in [None, Some(Object::new())] {
        let mut new = new_run(run(1), thread(1), at(0));
        (new.within, new.create_thread) = (owner("bob"), create);
        assert!(matches!(storage.create_run(new).await.unwrap(), CreatedRun::ThreadMissing));
    }
    assert!(storage.run(thread(1), run(1)).await.unwrap().is_none());
    let mut new = new_run(run(1), thread(1), at(0));
    new.within = owner("ann");
    assert!(matches!(storage.create_run(new).await.unwrap(), CreatedRun::Created { .. }));
    let mut on_its_own = new_run(run(2), thread(8), at(0));
    (on_its_own.within, on_its_own.create_thread) = (owner("bob"), Some(Object::new()));
    let made = storage.create_run(on_its_own).await.unwrap();
    assert!(matches!(made, CreatedRun::Created { .. }), "a thread that is not there yet is nobody else's");

    let cancel = || CancelRequest { action: CancelAction::Interrupt, reason: "r".into(), cause: CancelCause::User };
    let stopped = storage
        .cancel_run(CancelRun {
            thread_id: thread(1),
            run_id: run(1),
            within: owner("bob"),
            request: cancel(),
            now: at(1),
        })
        .await
        .unwrap();
    assert_eq!(stopped, CancelledRun::Missing);
    assert_eq!(storage.delete_run(thread(1), run(1), owner("bob")).await.unwrap(), None);
    let stopped = storage
        .cancel_run(CancelRun {
            thread_id: thread(1),
            run_id: run(1),
            within: owner("ann"),
            request: cancel(),
            now: at(1),
        })
        .await
        .unwrap();
    assert_eq!(stopped, CancelledRun::Ended);
    assert!(storage.delete_run(thread(1), run(1), owner("ann")).await.unwrap().is_some());
}

#[tokio::test]
async fn assistants_are_filtered() {
    let backend = Backend::new().await;
    let storage = &backend.storage;
    let id = |n| AssistantId(Uuid::from_u64_pair(4, n));
    for (n, metadata) in (1..).zip(metadata()) {
        let assistant = Assistant {
            assistant_id: id(n),
            graph_id: "g".into(),
            config: Object::new(),
            context: Object::new(),
            metadata,
            name: "a".into(),
            created_at: at(0),
            updated_at: at(0),
            version: 1,
            description: None,
        };
        storage.create_assistant(assistant).await.unwrap();
    }
    for (filter, admitted) in filters() {
        let query = AssistantQuery {
            metadata: Object::new(),
            visible: filter.clone(),
            graph_id: None,
            name: None,
            sort_by: AssistantSort::AssistantId,
            order: Order::Ascending,
        };
        let found = storage.search_assistants(query.clone(), WINDOW).await.unwrap().rows;
        let found: Vec<_> = found.into_iter().map(|found| found.assistant_id).collect();
        assert_eq!(found, admitted.iter().map(|n| id(*n)).collect::<Vec<_>>(), "{filter:?}");
        assert_eq!(storage.count_assistants(query).await.unwrap(), admitted.len() as u64, "{filter:?}");
    }
    let patch = |within| AssistantPatch { within, name: Some("b".into()), ..AssistantPatch::default() };
    assert!(storage.patch_assistant(id(1), patch(owner("bob")), at(1)).await.unwrap().is_none());
    assert!(storage.patch_assistant(id(1), patch(owner("ann")), at(1)).await.unwrap().is_some());
    assert!(storage.select_assistant_version(id(1), owner("bob"), 1, at(2)).await.unwrap().is_none());
    assert!(storage.select_assistant_version(id(1), owner("ann"), 1, at(2)).await.unwrap().is_some());
    assert!(!storage.delete_assistant(id(1), owner("bob")).await.unwrap());
    assert!(storage.delete_assistant(id(1), owner("ann")).await.unwrap());
}

#[tokio::test]
async fn crons_are_filtered_and_keep_their_user() {
    let backend = Backend::new().await;
    threads(&backend).await;
    let storage = &backend.storage;
    let user: User = serde_json::from_value(json!({"identity": "ann", "role": {"a": 1}})).unwrap();
    assert!(!storage.create_cron(cron(9, Some(thread(1)), 60), owner("bob")).await.unwrap());
    for (n, metadata) in (1..).zip(metadata()) {
        let mut new = cron(n, Some(thread(1)), 60);
        (new.metadata, new.user) = (metadata, (n == 1).then(|| user.clone()));
        assert!(storage.create_cron(new, owner("ann")).await.unwrap());
    }
    for (filter, admitted) in filters() {
        let query = CronQuery { visible: filter.clone(), order: Order::Ascending, ..CronQuery::default() };
        let found = storage.search_crons(query.clone(), WINDOW).await.unwrap().rows;
        let mut found: Vec<_> = found.into_iter().map(|found| found.cron_id).collect();
        found.sort();
        assert_eq!(found, admitted.iter().map(|n| cron(*n, None, 0).cron_id).collect::<Vec<_>>(), "{filter:?}");
        assert_eq!(storage.count_crons(query).await.unwrap(), admitted.len() as u64, "{filter:?}");
    }
    let first = storage.cron(cron(1, None, 0).cron_id).await.unwrap().unwrap();
    assert_eq!((first.user_id.as_str(), first.user.as_ref()), ("ann", Some(&user)));
    assert!(!json!(first).to_string().contains("role"), "what is shown of a cron names no more than the identity");
    assert!(!storage.delete_cron(first.cron_id, owner("bob")).await.unwrap());
    assert!(storage.delete_cron(first.cron_id, owner("ann")).await.unwrap());
}
