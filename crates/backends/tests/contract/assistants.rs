//! Assistants and their versions.

use serde_json::{Value, json};
use threadyard_core::{
    assistants::{Assistant, AssistantPatch, AssistantQuery, AssistantSort, CreatedAssistant},
    ids::AssistantId,
    json::Object,
    metadata_filter::MetadataFilter,
    page::{Order, Window},
};
use uuid::Uuid;

use crate::{Backend, at};

const WINDOW: Window = Window { limit: 10, offset: 0 };

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

fn assistant(n: u64, name: &str) -> Assistant {
    Assistant {
        assistant_id: AssistantId(Uuid::from_u64_pair(4, n)),
        graph_id: "echo".into(),
        config: Object::new(),
        context: Object::new(),
        metadata: object(json!({ "n": n })),
        name: name.into(),
        created_at: at(0),
        updated_at: at(0),
        version: 1,
        description: None,
    }
}

async fn create(backend: &Backend, n: u64, name: &str) -> AssistantId {
    let created = backend.storage.create_assistant(assistant(n, name)).await.unwrap();
    assert!(matches!(created, CreatedAssistant::New(_)));
    assistant(n, name).assistant_id
}

#[tokio::test]
async fn an_id_is_taken_only_once() {
    let backend = Backend::new().await;
    create(&backend, 1, "first").await;
    let again = backend.storage.create_assistant(assistant(1, "second")).await.unwrap();
    assert!(matches!(again, CreatedAssistant::Existing(existing) if existing.name == "first"));
    backend.storage.register_assistants(vec![assistant(1, "third"), assistant(2, "new")]).await.unwrap();
    let found = |n| backend.storage.assistant(AssistantId(Uuid::from_u64_pair(4, n)));
    assert_eq!(found(1).await.unwrap().unwrap().name, "first");
    assert_eq!(found(2).await.unwrap().unwrap().name, "new");
}

#[tokio::test]
async fn every_change_makes_a_version_and_earlier_ones_can_be_chosen() {
    let backend = Backend::new().await;
    let id = create(&backend, 1, "a").await;
    let patch = AssistantPatch {
        graph_id: Some("other".into()),
        config: Some(object(json!({ "tags": ["t"] }))),
        metadata: object(json!({ "m": null })),
        ..AssistantPatch::default()
    };
    let second = backend.storage.patch_assistant(id, patch, at(1)).await.unwrap().unwrap();
    assert_eq!((second.version, second.graph_id.as_str(), second.name.as_str()), (2, "other", "a"));
    assert_eq!(json!(second.metadata), json!({ "n": 1, "m": null }));
    assert_eq!((second.created_at, second.updated_at), (at(0), at(1)));

    let first =
        backend.storage.select_assistant_version(id, MetadataFilter::default(), 1, at(2)).await.unwrap().unwrap();
    assert_eq!((first.version, first.graph_id.as_str(), first.config.is_empty()), (1, "echo", true));
    assert!(backend.storage.select_assistant_version(id, MetadataFilter::default(), 9, at(2)).await.unwrap().is_none());

    let named = AssistantPatch { name: Some("b".into()), ..AssistantPatch::default() };
    let third = backend.storage.patch_assistant(id, named, at(3)).await.unwrap().unwrap();
    assert_eq!((third.version, third.graph_id.as_str(), third.name.as_str()), (3, "echo", "b"));

    let versions = |metadata, window| backend.storage.assistant_versions(id, metadata, window);
    let all = versions(Object::new(), WINDOW).await.unwrap().unwrap();
    let shown: Vec<_> = all.iter().map(|it| (it.version, it.graph_id.as_str(), it.created_at)).collect();
    assert_eq!(shown, [(3, "echo", at(3)), (2, "other", at(1)), (1, "echo", at(0))]);
    let some = versions(object(json!({ "m": null })), WINDOW).await.unwrap().unwrap();
    assert_eq!(some.iter().map(|it| it.version).collect::<Vec<_>>(), [2]);
    let rest = versions(Object::new(), Window { limit: 1, offset: 1 }).await.unwrap().unwrap();
    assert_eq!(rest.iter().map(|it| it.version).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn a_deleted_assistant_is_gone_with_its_versions() {
    let backend = Backend::new().await;
    let id = create(&backend, 1, "a").await;
    assert!(backend.storage.delete_assistant(id, MetadataFilter::default()).await.unwrap());
    assert!(!backend.storage.delete_assistant(id, MetadataFilter::default()).await.unwrap());
    assert!(backend.storage.assistant(id).await.unwrap().is_none());
    assert!(backend.storage.assistant_versions(id, Object::new(), WINDOW).await.unwrap().is_none());
    assert!(backend.storage.patch_assistant(id, AssistantPatch::default(), at(1)).await.unwrap().is_none());
    create(&backend, 1, "again").await;
    let versions = backend.storage.assistant_versions(id, Object::new(), WINDOW).await.unwrap().unwrap();
    assert_eq!(versions.len(), 1);
}

#[tokio::test]
async fn assistants_are_found_by_graph_name_and_metadata() {
    let backend = Backend::new().await;
    for (n, name) in [(1, "Loom"), (2, "loom two"), (3, "other")] {
        create(&backend, n, name).await;
    }
    let query = |name: Option<&str>, metadata| AssistantQuery {
        visible: MetadataFilter::default(),
        metadata: object(metadata),
        graph_id: Some("echo".into()),
        name: name.map(str::to_owned),
        sort_by: AssistantSort::Name,
        order: Order::Ascending,
    };
    let names = async |query: AssistantQuery, window| {
        let page = backend.storage.search_assistants(query, window).await.unwrap();
        (page.rows.into_iter().map(|it| it.name).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(names(query(Some("LOOM"), json!({})), WINDOW).await, (vec!["Loom".into(), "loom two".into()], false));
    assert_eq!(names(query(None, json!({ "n": 3 })), WINDOW).await, (vec!["other".into()], false));
    assert_eq!(names(query(None, json!({})), Window { limit: 1, offset: 1 }).await, (vec!["loom two".into()], true));
    assert_eq!(backend.storage.count_assistants(query(Some("loom"), json!({}))).await.unwrap(), 2);
}
