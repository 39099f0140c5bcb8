//! What users write that looks as if it had been encrypted, and rows that can't be opened.

use std::time::Duration;

use serde_json::{Value, json};
use threadyard_core::{
    access::User,
    crons::{Cron, CronQuery, CronSort, Crons},
    ids::{AssistantId, CronId},
    json::RawObject,
    metadata_filter::MetadataFilter,
    page::{Order, Window},
    runs::{PauseAt, Runs},
    sealing::{SealingContext, within},
    storage::{Storage, StorageError},
    testkit::new_run,
    threads::Threads,
};
use tokio::time::timeout;
use uuid::Uuid;

use crate::{Sealed, at, handlers::Mood, object, run, tenant, thread};

const NONSENSE: &str = "sealed~1:x.y";

fn cron(n: u64, metadata: Value) -> Cron {
    Cron {
        user: None,
        cron_id: CronId(Uuid::from_u64_pair(5, n)),
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
        next_run_date: Some(at(i64::try_from(n).unwrap())),
        metadata: object(metadata),
        payload: RawObject::new(),
        sealing: SealingContext::default(),
    }
}

async fn keep(storage: &dyn Storage, cron: Cron) {
    assert!(storage.create_cron(cron, MetadataFilter::default()).await.unwrap());
}

#[tokio::test]
async fn a_marker_under_a_key_that_the_server_keeps_is_a_text_like_any_other() {
    let sealed = Sealed::new();
    let said = json!({ "thread_id": NONSENSE, "graph_id": "echo", "colour": { "deep": [NONSENSE] } });
    let user = json!({ "identity": NONSENSE, "permissions": [NONSENSE, "read"], "is_authenticated": true, "display_name": "n" });
    let made = Cron { user: Some(User::try_from(object(user.clone())).unwrap()), ..cron(1, said.clone()) };
    keep(&sealed.storage, made).await;
    let stored = sealed.inner.cron(cron(1, json!({})).cron_id).await.unwrap().unwrap();
    assert_eq!(stored.metadata["graph_id"], "echo");
    let due = sealed.storage.due_crons(at(9), 10).await.unwrap().crons;
    assert_eq!((json!(due[0].metadata), json!(due[0].user)), (said, user));
}

#[tokio::test]
async fn what_was_encrypted_for_somebody_else_is_not_decrypted_for_who_sends_it() {
    let sealed = Sealed::new();
    let theirs = within(tenant("theirs"), sealed.thread(1, json!({ "said": "secret" }))).await;
    let stored = sealed.inner.thread(theirs).await.unwrap().unwrap().metadata;
    let marker = stored["said"].as_str().unwrap().to_owned();
    assert!(marker.starts_with("sealed~1:"), "{marker}");

    let mine = sealed.thread(2, json!({ "thread_id": marker, "run_id": marker })).await;
    let mut new = new_run(run(1), mine, at(0));
    let kwargs = &mut new.run.kwargs;
    kwargs.feedback_keys = Some(vec!["plain".into(), marker.clone()]);
    kwargs.interrupt_before = Some(PauseAt::Nodes(vec![marker.clone()]));
    kwargs.interrupt_after = Some(PauseAt::Nodes(vec!["node".into(), marker.clone()]));
    kwargs.webhook = Some(format!("https://a.example/#{marker}"));
    kwargs.config = object(json!({ "configurable": { "thread_id": marker, "cron_id": marker } }));
    let asked = json!(new.run.kwargs);
    sealed.storage.create_run(new).await.unwrap();

    let found = sealed.storage.run_by_id(run(1)).await.unwrap().unwrap();
    assert_eq!(json!(found.kwargs), asked);
    let found = sealed.storage.thread(mine).await.unwrap().unwrap();
    assert_eq!(json!(found.metadata), json!({ "thread_id": marker, "run_id": marker }));
    let stored = sealed.inner.run_by_id(run(1)).await.unwrap().unwrap();
    assert_eq!(stored.kwargs.feedback_keys.unwrap()[0], "plain", "others stay as they are");
}

#[tokio::test]
async fn a_marker_in_the_context_of_a_request_is_nothing_to_decrypt() {
    let sealed = Sealed::new();
    let thread_id = sealed.thread(1, json!({})).await;
    let context = object(json!({ "tenant": NONSENSE })).into();
    within(context, sealed.storage.create_run(new_run(run(1), thread_id, at(0)))).await.unwrap();
    assert!(sealed.storage.run_by_id(run(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn crons_that_cannot_be_opened_hold_up_no_others() {
    let sealed = Sealed::new();
    for n in 1..=3 {
        keep(&*sealed.inner, cron(n, json!({ "colour": NONSENSE }))).await;
    }
    let next = at(20);
    keep(&sealed.storage, cron(4, json!({ "said": "secret" }))).await;
    keep(&sealed.storage, cron(5, json!({}))).await;
    keep(&sealed.storage, cron(20, json!({}))).await;
    let due = sealed.storage.due_crons(at(9), 1).await.unwrap();
    assert_eq!(due.crons.first().map(|cron| json!(cron.metadata)), Some(json!({ "said": "secret" })));
    assert_eq!(due.next_due, Some(next));
    assert_eq!(sealed.storage.due_crons(at(3), 1).await.unwrap().crons.len(), 0);

    let all = || CronQuery { sort_by: CronSort::CronId, order: Order::Ascending, ..CronQuery::default() };
    let found = sealed.storage.search_crons(all(), Window { limit: 10, offset: 0 }).await.unwrap();
    assert_eq!(found.rows.len(), 3);
    let none = sealed.storage.search_crons(all(), Window { limit: 3, offset: 0 }).await;
    assert!(matches!(none, Err(StorageError::Sealing(_))), "nothing is not what there is");
}

#[tokio::test(start_paused = true)]
async fn crons_whose_handlers_hang_hold_up_no_others() {
    let sealed = Sealed::new();
    within(tenant("lost"), keep(&sealed.storage, cron(1, json!({ "said": "secret" })))).await;
    keep(&sealed.storage, cron(2, json!({ "said": "other" }))).await;
    sealed.handlers.are(Mood::Silent);
    let due = timeout(Duration::from_mins(2), sealed.storage.due_crons(at(9), 10)).await.unwrap().unwrap();
    assert_eq!(due.crons.iter().map(|cron| cron.cron_id).collect::<Vec<_>>(), [cron(2, json!({})).cron_id]);
}

#[tokio::test]
async fn crons_wait_while_nobody_can_decrypt_them() {
    let sealed = Sealed::new();
    within(tenant("lost"), keep(&sealed.storage, cron(1, json!({ "said": "secret" })))).await;
    sealed.handlers.are(Mood::Gone);
    assert!(matches!(sealed.storage.due_crons(at(9), 1).await, Err(StorageError::Unavailable(_))));
    sealed.handlers.are(Mood::Well);
    assert_eq!(sealed.storage.due_crons(at(9), 1).await.unwrap().crons.len(), 1);
    assert!(sealed.storage.thread(thread(9)).await.unwrap().is_none());
}
