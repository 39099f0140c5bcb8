//! Thread searches against a model that looks at every thread.

use std::cmp::Reverse;

use serde_json::{Value, json};
use threadyard_core::{
    filter::contains,
    json::{Object, raw},
    metadata_filter::MetadataFilter,
    page::{Order, Window},
    testkit::new_run,
    threads::{
        CopyThread, NewThread, Thread, ThreadOutcome, ThreadPatch, ThreadQuery, ThreadSort, ThreadStatus, ThreadUpdate,
    },
};

use crate::{Backend, at, run, thread};

/// More than a search reads in order before it takes another way.
const THREADS: u64 = 3_000;

fn object(value: Value) -> Object {
    if let Value::Object(object) = value { object } else { panic!("{value}") }
}

/// Metadata of every kind; only old threads are `old`, and that many of them that they are not few.
fn metadata(n: u64) -> Object {
    let mut metadata = object(json!({
        "graph_id": "agent",
        "user": format!("user {}", n % 1_000),
        "kind": n % 3,
        "nested": {"tags": [n % 5, "x"]},
    }));
    if n < 600 {
        metadata.insert("old".into(), json!(true));
    }
    let odd = [
        json!(1),
        json!(1.0),
        json!(-0.0),
        json!(true),
        json!("1"),
        json!(null),
        json!(u64::MAX),
        json!("\u{0}é😀"),
        json!("long ".repeat(400)),
    ];
    if let Some(odd) = odd.get(usize::try_from(n % 40).unwrap()) {
        metadata.insert("odd".into(), odd.clone());
    }
    metadata
}

/// Threads in every state, as a server may have them after some time.
async fn lived_in(backend: &Backend) -> Vec<Thread> {
    let storage = &backend.storage;
    for n in 0..THREADS {
        let now = at(i64::try_from(n / 2).unwrap());
        let new = NewThread { thread_id: thread(n), metadata: metadata(n), ttl: None, now };
        storage.create_thread(new).await.unwrap();
    }
    let left = |status, count: u64| ThreadUpdate {
        status,
        values: Some(raw(&json!({ "count": count }))),
        outcome: ThreadOutcome { interrupts: raw(&json!({})), error: None },
        state: None,
    };
    for n in (0..THREADS).step_by(7) {
        let status = [ThreadStatus::Interrupted, ThreadStatus::Error][usize::try_from(n % 2).unwrap()];
        storage
            .update_thread(
                thread(n),
                MetadataFilter::default(),
                left(status, n % 4),
                at(5_000 + i64::try_from(n % 11).unwrap()),
            )
            .await
            .unwrap();
    }
    for n in (0..THREADS).step_by(50) {
        storage.create_run(new_run(run(n), thread(n), at(6_000))).await.unwrap();
    }
    for n in (0..THREADS).step_by(101) {
        let metadata = object(json!({ "user": "moved", "kind": {"was": n % 3} }));
        storage
            .patch_thread(thread(n), ThreadPatch { within: MetadataFilter::default(), metadata, ttl: None }, at(7_000))
            .await
            .unwrap();
        storage
            .copy_thread(CopyThread {
                source: thread(n),
                within: MetadataFilter::default(),
                target: thread(THREADS + n),
                metadata: Object::new(),
                now: at(8_000),
            })
            .await
            .unwrap()
            .unwrap();
    }
    for n in (0..THREADS).step_by(13) {
        storage.delete_thread(thread(n), MetadataFilter::default()).await.unwrap();
    }
    let mut threads = Vec::new();
    for n in 0..2 * THREADS {
        threads.extend(storage.thread(thread(n)).await.unwrap());
    }
    threads
}

/// What a search should find, by looking at every thread. Threads come in the order in which they were made.
fn expected<'a>(threads: &'a [Thread], query: &ThreadQuery) -> Vec<&'a Thread> {
    let has = |document: &Value, pattern: &Object| contains(document, &Value::Object(pattern.clone()));
    let values = |thread: &Thread| serde_json::to_value(&thread.values).unwrap();
    let matches = |thread: &&Thread| {
        has(&Value::Object(thread.metadata.clone()), &query.metadata)
            && (query.values.is_empty() || has(&values(thread), &query.values))
            && query.status.is_none_or(|status| thread.status == status)
            && (query.ids.is_empty() || query.ids.contains(&thread.thread_id))
    };
    let mut found: Vec<_> = threads.iter().filter(matches).collect();
    // The last made first among equals.
    found.reverse();
    let by = |thread: &Thread| {
        let time = match query.sort_by {
            ThreadSort::CreatedAt => thread.created_at.0,
            ThreadSort::UpdatedAt => thread.updated_at.0,
            ThreadSort::StateUpdatedAt => thread.state_updated_at.0,
            ThreadSort::ThreadId | ThreadSort::Status => 0,
        };
        let id = if query.sort_by == ThreadSort::ThreadId { thread.thread_id.to_string() } else { String::new() };
        let status = if query.sort_by == ThreadSort::Status { thread.status.as_str() } else { "" };
        (time, id, status)
    };
    match query.order {
        Order::Ascending => found.sort_by_key(|thread| by(thread)),
        Order::Descending => found.sort_by_key(|thread| Reverse(by(thread))),
    }
    found
}

#[tokio::test]
async fn searches_find_what_a_look_at_every_thread_finds() {
    let backend = Backend::new().await;
    let threads = lived_in(&backend).await;
    let patterns = [
        json!({}),
        json!({"user": "user 77"}),
        json!({"user": "moved"}),
        json!({"user": "nobody"}),
        json!({"kind": 1}),
        json!({"kind": 1, "user": "user 1"}),
        json!({"kind": {"was": 2}}),
        json!({"graph_id": "agent", "nested": {"tags": [3]}}),
        json!({"nested": {"tags": ["x"]}}),
        json!({"old": true}),
        json!({"old": true, "kind": 2}),
        json!({"odd": 1}),
        json!({"odd": 1.0}),
        json!({"odd": 0.0}),
        json!({"odd": true}),
        json!({"odd": "1"}),
        json!({"odd": null}),
        json!({"odd": u64::MAX}),
        json!({"odd": "\u{0}é😀"}),
        json!({"odd": "long ".repeat(400)}),
        json!({"missing": null}),
    ];
    let statuses = [
        None,
        Some(ThreadStatus::Idle),
        Some(ThreadStatus::Busy),
        Some(ThreadStatus::Interrupted),
        Some(ThreadStatus::Error),
    ];
    let others = [ThreadSort::CreatedAt, ThreadSort::StateUpdatedAt, ThreadSort::ThreadId, ThreadSort::Status];
    let ids = |n: usize| if n.is_multiple_of(9) { (0..40).map(thread).collect() } else { Vec::new() };
    let values = |n: usize| if n.is_multiple_of(4) { object(json!({"count": 2})) } else { Object::new() };
    let mut asked = 0;
    for (nth, pattern) in patterns.into_iter().enumerate() {
        for (mth, status) in statuses.into_iter().enumerate() {
            for sort_by in [ThreadSort::UpdatedAt, others[(nth + mth) % 4]] {
                let order = if asked % 2 == 0 { Order::Descending } else { Order::Ascending };
                let (ids, metadata, values) = (ids(asked), object(pattern.clone()), values(asked));
                let visible = MetadataFilter::default();
                let query = ThreadQuery { visible, ids, metadata, values, status, sort_by, order };
                let window = Window { limit: 10, offset: [0, 3, 250][asked % 3] };
                asked += 1;
                let expected = expected(&threads, &query);
                let page: Vec<_> =
                    expected.iter().skip(window.offset as usize).take(10).map(|it| it.thread_id).collect();
                let found = backend.storage.search_threads(query.clone(), window).await.unwrap();
                let found: Vec<_> = found.rows.iter().map(|it| it.thread_id).collect();
                assert_eq!(found, page, "{query:?} {window:?}");
                assert_eq!(backend.storage.count_threads(query).await.unwrap(), expected.len() as u64);
            }
        }
    }
}
