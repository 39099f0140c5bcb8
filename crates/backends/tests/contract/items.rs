//! Store items.

use std::time::Duration;

use serde_json::{Value, json};
use threadyard_core::{
    items::{Embedding, ItemAnswer, ItemOperation, ItemPut, ItemSearch, NamespaceQuery},
    json::{Object, raw},
    metadata_filter::MetadataFilter,
    page::Window,
    storage::StorageError,
};

use crate::{Backend, at};

const WINDOW: Window = Window { limit: 10, offset: 0 };

fn labels(namespace: &str) -> Vec<String> {
    namespace.split('/').filter(|label| !label.is_empty()).map(str::to_owned).collect()
}

fn put(namespace: &str, key: &str, value: Option<Value>) -> ItemOperation {
    ItemOperation::Put(ItemPut {
        namespace: labels(namespace),
        key: key.into(),
        value: value.map(|value| raw(&value)),
        ttl: None,
        embeddings: Vec::new(),
        within: MetadataFilter::default(),
    })
}

async fn keys(backend: &Backend, prefix: &str, filter: Value) -> Vec<String> {
    let filter = if let Value::Object(filter) = filter { filter } else { Object::new() };
    let search = ItemOperation::Search(ItemSearch {
        prefix: labels(prefix),
        filter,
        query: None,
        window: WINDOW,
        refresh: false,
        visible: MetadataFilter::default(),
    });
    match backend.storage.apply_items(vec![search], at(9)).await.unwrap().remove(0) {
        ItemAnswer::Items(items) => items.into_iter().map(|found| found.item.key).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn reads_of_a_batch_see_what_was_there_before() {
    let backend = Backend::new().await;
    let get = || ItemOperation::Get {
        namespace: labels("a"),
        key: "k".into(),
        refresh: false,
        visible: MetadataFilter::default(),
    };
    let answers = backend.storage.apply_items(vec![put("a", "k", Some(json!({"v": 1}))), get()], at(1)).await.unwrap();
    assert!(matches!(answers[1], ItemAnswer::Item(None)));
    let answers = backend.storage.apply_items(vec![put("a", "k", Some(json!({"v": 2}))), get()], at(2)).await.unwrap();
    let ItemAnswer::Item(Some(item)) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!((item.value.get(), item.created_at), (r#"{"v":1}"#, at(1)));
    backend.storage.apply_items(vec![put("a", "k", None)], at(3)).await.unwrap();
    assert!(keys(&backend, "a", json!({})).await.is_empty());
}

#[tokio::test]
async fn searches_go_by_labels_and_fields() {
    let backend = Backend::new().await;
    let puts = [("a", "1", 1), ("a/b", "2", 2), ("ab", "3", 3), ("a/b/c", "4", 4)];
    let puts = puts.map(|(namespace, key, n)| put(namespace, key, Some(json!({"n": n, "tag": {"x": n}}))));
    backend.storage.apply_items(puts.into(), at(1)).await.unwrap();
    for (prefix, filter, expected) in [
        ("", json!({}), vec!["1", "2", "3", "4"]),
        ("a", json!({}), vec!["1", "2", "4"]),
        ("a/b", json!({"n": {"$gt": 2}}), vec!["4"]),
        ("a", json!({"n": 1}), vec!["1"]),
        ("a", json!({"n": {"$ne": 1}}), vec!["2", "4"]),
        ("a", json!({"n": {"$gte": 1, "$lt": 4}}), vec!["1", "2"]),
        ("a", json!({"n": {"$lte": 2}}), vec!["1", "2"]),
        ("a", json!({"n": {"$eq": 2}}), vec!["2"]),
        ("a", json!({"n": {"$like": 2}}), vec![]),
        ("a", json!({"tag": {"x": 4}}), vec!["4"]),
        ("a", json!({"missing": null}), vec!["1", "2", "4"]),
    ] {
        assert_eq!(keys(&backend, prefix, filter.clone()).await, expected, "{prefix} {filter}");
    }
}

#[tokio::test]
async fn namespaces_are_listed_by_their_ends() {
    let backend = Backend::new().await;
    let puts = ["a/x", "a/y/z", "b/x"].map(|namespace| put(namespace, "k", Some(json!({}))));
    backend.storage.apply_items(puts.into(), at(1)).await.unwrap();
    for (prefix, suffix, max_depth, expected) in [
        ("", "", None, vec!["a/x", "a/y/z", "b/x"]),
        ("a", "", None, vec!["a/x", "a/y/z"]),
        ("", "x", None, vec!["a/x", "b/x"]),
        ("*/y", "", None, vec!["a/y/z"]),
        ("", "", Some(1), vec!["a", "b"]),
    ] {
        let query = NamespaceQuery { prefix: labels(prefix), suffix: labels(suffix), max_depth, window: WINDOW };
        let answers = backend.storage.apply_items(vec![ItemOperation::ListNamespaces(query)], at(2)).await.unwrap();
        let ItemAnswer::Namespaces(found) = &answers[0] else { panic!("{answers:?}") };
        assert_eq!(found.iter().map(|labels| labels.join("/")).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn an_item_whose_time_is_over_is_not_there_and_is_swept() {
    let backend = Backend::new().await;
    let put = |key: &str, ttl: Option<u64>| {
        ItemOperation::Put(ItemPut {
            namespace: labels("a"),
            key: key.into(),
            value: Some(raw(&json!({ "k": key }))),
            ttl: ttl.map(Duration::from_secs),
            embeddings: Vec::new(),
            within: MetadataFilter::default(),
        })
    };
    let apply = async |operation, now| backend.storage.apply_items(vec![operation], at(now)).await.unwrap().remove(0);
    for (key, ttl) in [("short", Some(10)), ("long", Some(100)), ("forever", None)] {
        apply(put(key, ttl), 0).await;
    }
    let left = async |now, refresh| {
        let search = ItemOperation::Search(ItemSearch {
            prefix: labels("a"),
            filter: Object::new(),
            query: None,
            window: WINDOW,
            refresh,
            visible: MetadataFilter::default(),
        });
        match apply(search, now).await {
            ItemAnswer::Items(items) => items.into_iter().map(|it| it.item.key).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(left(9, false).await.len(), 3);
    // Reading begins the time anew only when it is asked to.
    assert_eq!(left(9, true).await.len(), 3);
    assert_eq!(left(18, false).await.len(), 3);
    assert_eq!(left(19, false).await.len(), 2);
    assert_eq!(backend.storage.sweep_items(at(19), 10).await.unwrap(), 1);
    assert_eq!(backend.storage.sweep_items(at(19), 10).await.unwrap(), 0);
    let get = ItemOperation::Get {
        namespace: labels("a"),
        key: "long".into(),
        refresh: true,
        visible: MetadataFilter::default(),
    };
    assert!(matches!(apply(get.clone(), 100).await, ItemAnswer::Item(Some(_))));
    assert!(matches!(apply(get.clone(), 199).await, ItemAnswer::Item(Some(_))));
    assert!(matches!(apply(get, 400).await, ItemAnswer::Item(None)));
    // Something new takes the place of what is over but not swept yet.
    apply(put("long", None), 400).await;
    let get = ItemOperation::Get {
        namespace: labels("a"),
        key: "long".into(),
        refresh: false,
        visible: MetadataFilter::default(),
    };
    let ItemAnswer::Item(Some(item)) = apply(get, 401).await else { panic!("the item is not there") };
    assert_eq!(item.created_at, at(400));
    assert_eq!(left(9_999, false).await.len(), 2);
}

#[tokio::test]
async fn the_nearest_come_first() {
    let backend = Backend::new().await;
    let near = |model: &str, vector: &[f32]| Embedding { model: model.into(), vector: vector.into() };
    let put = |key: &str, embeddings: Vec<Embedding>, ttl| {
        ItemOperation::Put(ItemPut {
            namespace: labels("a"),
            key: key.into(),
            value: Some(raw(&json!({ "even": key.len().is_multiple_of(2) }))),
            ttl,
            embeddings,
            within: MetadataFilter::default(),
        })
    };
    let puts = vec![
        put("opposite", vec![near("m", &[-1.0, 0.0])], None),
        put("two texts", vec![near("m", &[-1.0, 0.1]), near("m", &[1.0, 0.1])], None),
        put("same", vec![near("m", &[3.0, 0.0])], None),
        put("nothing", vec![near("m", &[0.0, 0.0])], None),
        put("other model", vec![near("n", &[1.0, 0.0, 0.0])], None),
        put("none", vec![], None),
        put("over", vec![near("m", &[1.0, 0.0])], Some(Duration::from_micros(1))),
    ];
    if !backend.compares_vectors().await {
        return says_what_is_missing(&backend, puts).await;
    }
    backend.storage.apply_items(puts, at(1)).await.unwrap();
    let search = async |filter: Value, window| {
        let Value::Object(filter) = filter else { panic!("{filter}") };
        let query = Some(near("m", &[2.0, 0.0]));
        let (prefix, visible) = (labels("a"), MetadataFilter::default());
        let search = ItemOperation::Search(ItemSearch { prefix, filter, query, window, refresh: false, visible });
        match backend.storage.apply_items(vec![search], at(2)).await.unwrap().remove(0) {
            ItemAnswer::Items(found) => found.into_iter().map(|it| (it.item.key, it.score)).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    let found = search(json!({}), WINDOW).await;
    let keys: Vec<_> = found.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["same", "two texts", "nothing", "opposite", "none", "other model"]);
    let expected = [Some(1.0), Some(1.0 / 1.01_f64.sqrt()), Some(0.0), Some(-1.0), None, None];
    for ((key, score), expected) in found.iter().zip(expected) {
        assert_eq!(score.is_some(), expected.is_some(), "{key}");
        assert!((score.unwrap_or_default() - expected.unwrap_or_default()).abs() < 1e-6, "{key}: {score:?}");
    }
    let page: Vec<_> = search(json!({"even": true}), Window { limit: 2, offset: 1 }).await;
    assert_eq!(page.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["opposite", "none"]);

    // What an item means goes when it is written anew, or deleted.
    let delete = ItemOperation::Put(ItemPut {
        namespace: labels("a"),
        key: "two texts".into(),
        value: None,
        ttl: None,
        embeddings: vec![],
        within: MetadataFilter::default(),
    });
    backend.storage.apply_items(vec![put("same", vec![], None), delete], at(2)).await.unwrap();
    backend.storage.apply_items(vec![put("two texts", vec![], None)], at(2)).await.unwrap();
    assert_eq!(search(json!({}), Window { limit: 1, offset: 0 }).await, [("nothing".to_owned(), Some(0.0))]);
}

/// A database that can't compare vectors refuses them, and does everything else.
async fn says_what_is_missing(backend: &Backend, with_meaning: Vec<ItemOperation>) {
    let query = Some(Embedding { model: "m".into(), vector: vec![1.0] });
    let search = ItemSearch {
        prefix: vec![],
        filter: Object::new(),
        query,
        window: WINDOW,
        refresh: false,
        visible: MetadataFilter::default(),
    };
    for operations in [with_meaning, vec![put("a", "k", Some(json!({}))), ItemOperation::Search(search)]] {
        let refused = backend.storage.apply_items(operations, at(1)).await;
        let Err(StorageError::Unsupported(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("`CREATE EXTENSION vector`"), "{why}");
    }
    assert!(keys(backend, "a", json!({})).await.is_empty(), "what is refused leaves nothing");
    backend.storage.apply_items(vec![put("a", "k", Some(json!({})))], at(1)).await.unwrap();
    assert_eq!(keys(backend, "a", json!({})).await, ["k"]);
}

fn of(owner: &str) -> MetadataFilter {
    MetadataFilter::read(&Object::from_iter([("owner".to_owned(), owner.into())])).unwrap()
}

#[tokio::test]
async fn an_item_that_is_not_to_be_seen_is_neither_changed_nor_kept_for_longer() {
    let backend = Backend::new().await;
    let item = |key: &str, owner: &str, ttl: Option<u64>, within| {
        ItemOperation::Put(ItemPut {
            namespace: labels("a"),
            key: key.into(),
            value: Some(raw(&json!({ "owner": owner }))),
            ttl: ttl.map(Duration::from_secs),
            embeddings: Vec::new(),
            within,
        })
    };
    let apply =
        async |operation, second| backend.storage.apply_items(vec![operation], at(second)).await.unwrap().remove(0);
    let everything = MetadataFilter::default;
    apply(item("k", "ann", Some(10), everything()), 1).await;
    let gone = |within| {
        let (namespace, key, value, ttl, embeddings) = (labels("a"), "k".into(), None, None, Vec::new());
        ItemOperation::Put(ItemPut { namespace, key, value, ttl, embeddings, within })
    };
    assert!(matches!(apply(item("k", "bob", None, of("bob")), 2).await, ItemAnswer::Hidden));
    assert!(matches!(apply(gone(of("bob")), 2).await, ItemAnswer::Hidden));
    assert!(matches!(apply(item("other", "bob", None, of("bob")), 2).await, ItemAnswer::Written), "there was none");
    assert!(matches!(apply(item("other", "bob", None, of("bob")), 3).await, ItemAnswer::Written), "it is bob's");

    let get = |visible| ItemOperation::Get { namespace: labels("a"), key: "k".into(), refresh: true, visible };
    let search = |visible| {
        let (prefix, filter, query, window) = (labels("a"), Object::new(), None, Window { limit: 1, offset: 0 });
        ItemOperation::Search(ItemSearch { prefix, filter, query, window, refresh: true, visible })
    };
    assert!(matches!(apply(get(of("bob")), 9).await, ItemAnswer::Item(None)));
    let ItemAnswer::Items(found) = apply(search(of("bob")), 9).await else { panic!() };
    assert_eq!(found.iter().map(|it| it.item.key.as_str()).collect::<Vec<_>>(), ["other"]);
    let ItemAnswer::Items(found) = apply(search(of("ann")), 4).await else { panic!() };
    assert_eq!(
        found.iter().map(|it| it.item.key.as_str()).collect::<Vec<_>>(),
        ["k"],
        "a page is full of what may be seen"
    );
    assert!(matches!(apply(get(of("ann")), 13).await, ItemAnswer::Item(Some(_))), "who may see it keeps it");
    assert!(matches!(apply(get(of("bob")), 22).await, ItemAnswer::Item(None)));
    assert!(matches!(apply(get(everything()), 24).await, ItemAnswer::Item(None)), "who may not see it does not");
    assert!(
        matches!(apply(item("k", "bob", None, of("bob")), 24).await, ItemAnswer::Written),
        "what is over is not there"
    );
    assert!(matches!(apply(gone(of("bob")), 25).await, ItemAnswer::Written));
}
