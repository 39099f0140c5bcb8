//! Tasks of other agents: found among the runs of the assistant, whatever else there is.

use serde_json::json;
use threadyard_core::{
    agent_task_list::TaskQuery,
    agent_tasks::{BEGUN_BY, GOES_ON_WITH, TaskId},
    ids::{AssistantId, RunId},
    json::{Object, Value},
    metadata_filter::MetadataFilter,
    page::Window,
    runs::{CreatedRun, NewRun, Run},
    testkit::new_run,
};
use uuid::Uuid;

use super::{at, run, thread};
use crate::Backend;

fn object(value: Value) -> Object {
    if let Value::Object(object) = value { object } else { panic!("{value}") }
}

fn assistant(n: u64) -> AssistantId {
    AssistantId(Uuid::from_u64_pair(9, n))
}

async fn make(backend: &Backend, n: u64, (of, on): (u64, u64), owner: &str, metadata: Value) {
    let new = new_run(run(n), thread(on), at(n.cast_signed()));
    let run = Run { metadata: object(metadata), assistant_id: assistant(of), ..new.run };
    let create_thread = Some(object(json!({ "owner": owner, "n": on })));
    let made = backend.storage.create_run(NewRun { create_thread, run, ..new }).await.unwrap();
    assert!(matches!(made, CreatedRun::Created { .. }));
}

async fn found(backend: &Backend, query: TaskQuery, window: Window) -> (Vec<RunId>, u64) {
    let page = backend.storage.agent_tasks(query, window).await.unwrap();
    (page.ids.into_iter().map(|id| id.run_id).collect(), page.total)
}

#[tokio::test]
async fn the_tasks_of_an_assistant_are_listed_from_the_newest() {
    let backend = Backend::new().await;
    let begun = || json!({ BEGUN_BY: "m" });
    let goes_on = TaskId { thread_id: thread(1), run_id: run(1) }.to_string();
    make(&backend, 1, (1, 1), "ann", begun()).await;
    make(&backend, 2, (1, 1), "ann", json!({ BEGUN_BY: "m", GOES_ON_WITH: goes_on })).await;
    make(&backend, 3, (1, 2), "bob", begun()).await;
    make(&backend, 4, (2, 2), "bob", begun()).await;
    make(&backend, 5, (1, 2), "bob", json!({ "inner": { BEGUN_BY: "m" } })).await;
    make(&backend, 6, (1, 1), "ann", json!({ "odd\0": 1, BEGUN_BY: "m" })).await;
    let backend = backend.reopen().await;

    let all = || TaskQuery {
        assistant_id: assistant(1),
        context: None,
        metadata: Object::new(),
        visible: MetadataFilter::default(),
    };
    let window = Window { limit: 10, offset: 0 };
    assert_eq!(found(&backend, all(), window).await, (vec![run(6), run(3), run(1)], 3));
    assert_eq!(found(&backend, all(), Window { limit: 1, offset: 1 }).await, (vec![run(3)], 3));
    assert_eq!(found(&backend, all(), Window { limit: 1, offset: u32::MAX }).await, (vec![], 3));
    let of_context = TaskQuery { context: Some(thread(2)), ..all() };
    assert_eq!(found(&backend, of_context, window).await, (vec![run(3)], 1));
    let visible = MetadataFilter::read(&object(json!({ "owner": "ann" }))).unwrap();
    assert_eq!(found(&backend, TaskQuery { visible, ..all() }, window).await, (vec![run(6), run(1)], 2));
    let metadata = object(json!({ "n": 2 }));
    assert_eq!(found(&backend, TaskQuery { metadata, ..all() }, window).await, (vec![run(3)], 1));
    assert_eq!(found(&backend, TaskQuery { assistant_id: assistant(3), ..all() }, window).await, (vec![], 0));
}
