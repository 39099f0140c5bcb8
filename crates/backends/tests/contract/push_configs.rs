//! Push configs: kept with their task, told at the end of its runs, and gone with it.

use threadyard_core::{
    agent_parts::Version,
    agent_tasks::{BEGUN_BY, GOES_ON_WITH, TaskId},
    json::{Object, raw},
    metadata_filter::MetadataFilter,
    push_configs::{KeptPushConfig, MOST_PUSH_CONFIGS, PushConfig, TOKEN_HEADER},
    runs::{CreatedRun, Ending, NewRun, Run},
    testkit::new_run,
    webhook_policy::WebhookHeaders,
};

use crate::{Backend, at, contract::webhooks, run, success, thread};

fn task(n: u64) -> TaskId {
    TaskId { thread_id: thread(1), run_id: run(n) }
}

fn config(n: u64, id: &str) -> PushConfig {
    let headers = WebhookHeaders(vec![(TOKEN_HEADER.into(), "s3cret".into())]);
    PushConfig {
        task: task(n),
        id: id.into(),
        url: "https://a.example/push?x=1".into(),
        headers,
        version: Version::V03,
    }
}

/// A run that another agent asked for.
fn asked(n: u64, goes_on: Option<TaskId>) -> NewRun {
    let mut metadata = Object::from_iter([(BEGUN_BY.to_owned(), "m".into())]);
    metadata.extend(goes_on.map(|task| (GOES_ON_WITH.to_owned(), task.to_string().into())));
    let new = new_run(run(n), thread(1), at(0));
    NewRun { create_thread: Some(Object::new()), run: Run { metadata, ..new.run }, ..new }
}

async fn make(backend: &Backend, new: NewRun) {
    assert!(matches!(backend.storage.create_run(new).await.unwrap(), CreatedRun::Created { .. }));
}

async fn end(backend: &Backend, ending: Ending) {
    let lease = backend.claim(1, at(1)).await[0].lease;
    backend.storage.finish_run(lease, ending).await.unwrap();
}

#[tokio::test]
async fn the_end_of_each_run_of_a_task_is_told_to_each_config() {
    let backend = Backend::new().await;
    make(&backend, NewRun { push_config: Some(config(1, "b")), ..asked(1, None) }).await;
    assert_eq!(
        backend.storage.keep_push_config(config(1, "a"), MetadataFilter::default()).await.unwrap(),
        KeptPushConfig::Done
    );
    let backend = backend.reopen().await;
    assert_eq!(backend.storage.push_configs(task(1)).await.unwrap(), [config(1, "a"), config(1, "b")]);

    let values = Some(raw(&serde_json::json!({ "messages": [{ "type": "ai", "content": "hi", "id": "x" }] })));
    end(&backend, Ending { values, ..success(at(2)) }).await;
    let told = webhooks::claim(&backend, 3).await;
    assert_eq!(told.len(), 2);
    for delivery in &told {
        assert_eq!((delivery.event.as_str(), &delivery.headers), ("task.completed", &config(1, "a").headers));
        let body: serde_json::Value = serde_json::from_slice(&delivery.body).unwrap();
        assert_eq!((body["id"].as_str(), body["kind"].as_str()), (Some(&*task(1).to_string()), Some("task")));
        assert_eq!(body["artifacts"][0]["parts"][0]["text"], "hi");
        assert!(!String::from_utf8_lossy(&delivery.body).contains("s3cret"));
    }
    assert_ne!(told[0].id, told[1].id);

    assert!(backend.storage.delete_push_config(task(1), "a".into(), MetadataFilter::default()).await.unwrap());
    assert!(!backend.storage.delete_push_config(task(1), "a".into(), MetadataFilter::default()).await.unwrap());
    make(&backend, asked(2, Some(task(1)))).await;
    end(&backend, success(at(4))).await;
    assert_eq!(webhooks::claim(&backend, 5).await.len(), 1, "the task goes on, with one config left");
    make(&backend, asked(3, None)).await;
    end(&backend, success(at(6))).await;
    assert!(webhooks::claim(&backend, 7).await.is_empty(), "another task has none");
}

#[tokio::test]
async fn a_run_elsewhere_that_says_it_goes_on_with_a_task_is_not_of_it() {
    let backend = Backend::new().await;
    make(&backend, NewRun { push_config: Some(config(1, "a")), ..asked(1, None) }).await;
    end(&backend, success(at(2))).await;
    assert_eq!(webhooks::claim(&backend, 3).await.len(), 1);
    let foreign = asked(2, Some(task(1)));
    make(&backend, NewRun { run: Run { thread_id: thread(2), ..foreign.run }, ..foreign }).await;
    end(&backend, success(at(4))).await;
    assert!(webhooks::claim(&backend, 5).await.is_empty());
}

#[tokio::test]
async fn a_config_needs_a_task_and_goes_with_it() {
    let backend = Backend::new().await;
    let storage = &backend.storage;
    assert_eq!(
        storage.keep_push_config(config(1, "a"), MetadataFilter::default()).await.unwrap(),
        KeptPushConfig::NoTask
    );
    make(&backend, asked(1, None)).await;
    for n in 0..MOST_PUSH_CONFIGS {
        assert_eq!(
            storage.keep_push_config(config(1, &n.to_string()), MetadataFilter::default()).await.unwrap(),
            KeptPushConfig::Done
        );
    }
    assert_eq!(
        storage.keep_push_config(config(1, "more"), MetadataFilter::default()).await.unwrap(),
        KeptPushConfig::TooMany
    );
    let changed = PushConfig { url: "https://b.example/".into(), version: Version::V1, ..config(1, "0") };
    assert_eq!(
        storage.keep_push_config(changed.clone(), MetadataFilter::default()).await.unwrap(),
        KeptPushConfig::Done
    );
    assert!(storage.push_configs(task(1)).await.unwrap().contains(&changed));
    assert_eq!(storage.sweep_push_configs(100).await.unwrap(), 0);
    storage.delete_thread(thread(1), MetadataFilter::default()).await.unwrap();
    assert_eq!(storage.sweep_push_configs(100).await.unwrap(), u64::from(MOST_PUSH_CONFIGS));
    assert!(storage.push_configs(task(1)).await.unwrap().is_empty());
}

#[tokio::test]
async fn only_whom_the_thread_admits_changes_its_configs() {
    let backend = Backend::new().await;
    let owner = |name: &str| Object::from_iter([("owner".to_owned(), name.into())]);
    let of = |name: &str| MetadataFilter::read(&owner(name)).unwrap();
    make(&backend, NewRun { create_thread: Some(owner("ann")), ..asked(1, None) }).await;
    let storage = &backend.storage;
    assert_eq!(storage.keep_push_config(config(1, "a"), of("bob")).await.unwrap(), KeptPushConfig::NoTask);
    assert_eq!(storage.keep_push_config(config(1, "a"), of("ann")).await.unwrap(), KeptPushConfig::Done);
    assert!(!storage.delete_push_config(task(1), "a".into(), of("bob")).await.unwrap());
    assert!(storage.delete_push_config(task(1), "a".into(), of("ann")).await.unwrap());
}
