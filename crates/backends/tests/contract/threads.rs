//! Threads and assistants.

use serde_json::json;
use threadyard_core::{
    assistants::{Assistant, AssistantQuery, AssistantSort},
    ids::AssistantId,
    json::{Object, Value, raw, raw_from_text},
    metadata_filter::MetadataFilter,
    page::{Order, Window},
    testkit::new_run,
    threads::{
        CreatedThread, DeletedThread, NewThread, SavedState, ThreadOutcome, ThreadPatch, ThreadQuery, ThreadStatus,
        ThreadUpdate, UpdatedThread,
    },
};

use crate::{Backend, HANDLERS, at, run, success, thread};

fn object(value: Value) -> Object {
    if let Value::Object(object) = value { object } else { Object::new() }
}

fn patch(metadata: Value) -> ThreadPatch {
    ThreadPatch { within: MetadataFilter::default(), metadata: object(metadata), ttl: None }
}

#[tokio::test]
async fn an_id_is_taken_once() {
    let backend = Backend::new().await;
    let new = |metadata| NewThread { thread_id: thread(1), metadata: object(metadata), ttl: None, now: at(0) };
    assert!(matches!(backend.storage.create_thread(new(json!({"a": 1}))).await.unwrap(), CreatedThread::New(_)));
    let CreatedThread::Existing(kept) = backend.storage.create_thread(new(json!({"b": 2}))).await.unwrap() else {
        panic!("the id was taken");
    };
    assert_eq!(json!(kept.metadata), json!({"a": 1}));
}

#[tokio::test]
async fn searches_match_metadata_values_status_and_ids() {
    let backend = Backend::new().await;
    for n in 1..=3 {
        backend.thread(n).await;
        backend
            .storage
            .patch_thread(thread(n), patch(json!({"n": n, "deep": {"x": 1}})), at(i64::try_from(n).unwrap()))
            .await
            .unwrap();
    }
    let values = |count| ThreadUpdate {
        status: ThreadStatus::Interrupted,
        values: Some(raw(&json!({"count": count}))),
        outcome: ThreadOutcome { interrupts: raw(&json!({})), error: None },
        state: Some(SavedState { state: raw(&json!({"next": ["a"]})), revision: "r".into() }),
    };
    assert_eq!(
        backend.storage.update_thread(thread(2), MetadataFilter::default(), values(7), at(9)).await.unwrap(),
        UpdatedThread::Done
    );
    assert_eq!(
        backend.storage.update_thread(thread(8), MetadataFilter::default(), values(7), at(9)).await.unwrap(),
        UpdatedThread::Missing
    );
    let base = ThreadQuery::default;
    for (query, expected) in [
        (base(), vec![2, 3, 1]),
        (ThreadQuery { order: Order::Ascending, ..base() }, vec![1, 3, 2]),
        (ThreadQuery { metadata: object(json!({"n": 3})), ..base() }, vec![3]),
        (ThreadQuery { metadata: object(json!({"deep": {"x": 2}})), ..base() }, vec![]),
        (ThreadQuery { values: object(json!({"count": 7})), ..base() }, vec![2]),
        (ThreadQuery { status: Some(ThreadStatus::Interrupted), ..base() }, vec![2]),
        (ThreadQuery { ids: vec![thread(1), thread(3)], ..base() }, vec![3, 1]),
    ] {
        assert_eq!(backend.storage.count_threads(query.clone()).await.unwrap(), expected.len() as u64);
        let page = backend.storage.search_threads(query, Window { limit: 10, offset: 0 }).await.unwrap();
        let found: Vec<_> = page.rows.iter().map(|it| it.thread_id).collect();
        assert_eq!(found, expected.into_iter().map(thread).collect::<Vec<_>>());
    }
    let page = backend.storage.search_threads(base(), Window { limit: 2, offset: 0 }).await.unwrap();
    assert!(page.more && page.rows.len() == 2);
    let head = backend.storage.thread_head(thread(2)).await.unwrap().unwrap();
    assert_eq!(head.state.unwrap().revision, "r");
}

#[tokio::test]
async fn deleting_a_thread_takes_its_runs_and_names_the_open_ones() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    backend.storage.create_run(new_run(run(1), thread(1), at(0))).await.unwrap();
    let held = backend.claim(1, at(1)).await.remove(0);
    backend.storage.create_run(new_run(run(2), thread(1), at(0))).await.unwrap();
    assert_eq!(
        backend.storage.delete_thread(thread(1), MetadataFilter::default()).await.unwrap(),
        Some(DeletedThread { pending: vec![run(2)], running: vec![run(1)] })
    );
    assert_eq!(backend.storage.delete_thread(thread(1), MetadataFilter::default()).await.unwrap(), None);
    assert!(backend.storage.run_by_id(run(1)).await.unwrap().is_none());
    assert!(backend.storage.finish_run(held.lease, success(at(2))).await.is_err());
}

#[tokio::test]
async fn a_temporary_thread_goes_with_its_run() {
    let backend = Backend::new().await;
    let mut new = new_run(run(1), thread(1), at(0));
    new.create_thread = Some(Object::new());
    new.run.kwargs.temporary = true;
    backend.storage.create_run(new).await.unwrap();
    let held = backend.claim(1, at(1)).await.remove(0);
    backend.storage.finish_run(held.lease, success(at(2))).await.unwrap();
    assert!(backend.storage.thread(thread(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn assistants_are_registered_once_and_found() {
    let backend = Backend::new().await;
    let assistant = |graph: &str, name: &str| Assistant {
        assistant_id: AssistantId::of_graph(graph),
        graph_id: graph.into(),
        config: Object::new(),
        context: Object::new(),
        metadata: object(json!({"created_by": "system"})),
        name: name.into(),
        created_at: at(0),
        updated_at: at(0),
        version: 1,
        description: None,
    };
    backend.storage.register_assistants(vec![assistant("a", "Alpha"), assistant("b", "Beta")]).await.unwrap();
    backend.storage.register_assistants(vec![assistant("a", "changed")]).await.unwrap();
    let kept = backend.storage.assistant(AssistantId::of_graph("a")).await.unwrap().unwrap();
    assert_eq!(kept, assistant("a", "Alpha"));
    let query = |graph_id: Option<&str>, name: Option<&str>| AssistantQuery {
        visible: MetadataFilter::default(),
        metadata: object(json!({"created_by": "system"})),
        graph_id: graph_id.map(Into::into),
        name: name.map(Into::into),
        sort_by: AssistantSort::Name,
        order: Order::Ascending,
    };
    for (query, expected) in [
        (query(None, None), vec!["Alpha", "Beta"]),
        (query(Some("b"), None), vec!["Beta"]),
        (query(None, Some("ALPH")), vec!["Alpha"]),
    ] {
        assert_eq!(backend.storage.count_assistants(query.clone()).await.unwrap(), expected.len() as u64);
        let page = backend.storage.search_assistants(query, Window { limit: 10, offset: 0 }).await.unwrap();
        assert_eq!(page.rows.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn values_that_can_not_be_understood_match_nothing() {
    let backend = Backend::new().await;
    let deep = "[".repeat(200) + &"]".repeat(200);
    for (n, values) in
        [(1, r#"{"x":"\ud800"}"#.to_owned()), (2, format!(r#"{{"x":{deep}}}"#)), (3, r#"{"x":1}"#.into())]
    {
        backend.thread(n).await;
        let outcome = ThreadOutcome { interrupts: raw(&json!({})), error: None };
        let values = Some(raw_from_text(values).unwrap());
        let update = ThreadUpdate { status: ThreadStatus::Idle, values, outcome, state: None };
        backend.storage.update_thread(thread(n), MetadataFilter::default(), update, at(1)).await.unwrap();
    }
    let query = ThreadQuery { values: object(json!({ "x": 1 })), ..ThreadQuery::default() };
    let found = backend.storage.search_threads(query, Window { limit: 10, offset: 0 }).await.unwrap();
    assert_eq!(found.rows.into_iter().map(|it| it.thread_id).collect::<Vec<_>>(), [thread(3)]);
}

#[tokio::test]
async fn documents_come_back_as_they_were_sent() {
    let backend = Backend::new().await;
    let metadata =
        object(serde_json::from_str(r#"{"z":1,"a":1.0,"m":{"y":"\u0000","b":18446744073709551615}}"#).unwrap());
    let new = NewThread { thread_id: thread(1), metadata: metadata.clone(), ttl: None, now: at(0) };
    backend.storage.create_thread(new).await.unwrap();
    let values = r#"{"z": 1e999, "a":"\u0000\ud800", "z":0.10000000000000000000001}"#;
    let update = ThreadUpdate {
        status: ThreadStatus::Idle,
        values: Some(raw_from_text(values.into()).unwrap()),
        outcome: ThreadOutcome { interrupts: raw_from_text("{ }".into()).unwrap(), error: None },
        state: Some(SavedState {
            state: raw_from_text(format!("{{\"values\":{values},\"next\":[]}}")).unwrap(),
            revision: "r".into(),
        }),
    };
    backend.storage.update_thread(thread(1), MetadataFilter::default(), update, at(1)).await.unwrap();
    let found = backend.storage.thread(thread(1)).await.unwrap().unwrap();
    assert_eq!(serde_json::to_string(&found.metadata).unwrap(), serde_json::to_string(&metadata).unwrap());
    // Handlers are given an object, which has each member once.
    let kept = if HANDLERS { r#"{"z":0.10000000000000000000001,"a":"\u0000\ud800"}"# } else { values };
    assert_eq!(found.values.known().unwrap().get(), kept);
    assert_eq!(found.outcome.unwrap().interrupts.get(), "{ }");
    let head = backend.storage.thread_head(thread(1)).await.unwrap().unwrap();
    assert_eq!(head.state.unwrap().state.get(), format!("{{\"values\":{kept},\"next\":[]}}"));
    let patched =
        backend.storage.patch_thread(thread(1), patch(json!({"new": 1, "z": 2})), at(2)).await.unwrap().unwrap();
    let keys: Vec<_> = patched.metadata.keys().map(String::as_str).collect();
    assert_eq!((keys, &patched.metadata["z"]), (vec!["z", "a", "m", "new"], &json!(2)));
    let query = ThreadQuery { metadata: object(json!({"m": {"y": "\u{0}"}})), ..ThreadQuery::default() };
    assert_eq!(backend.storage.count_threads(query).await.unwrap(), 1);
}
