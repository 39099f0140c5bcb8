//! Crons, and that each of their moments counts once.

use std::time::Duration;

use serde_json::json;
use threadyard_core::{
    crons::{Cron, CronQuery, CronSort, CronTick, UpdatedCron},
    ids::{AssistantId, CronId, ThreadId},
    json::{Object, RawObject, raw},
    metadata_filter::MetadataFilter,
    page::{Order, Window},
    runs::{CreatedRun, MultitaskStrategy},
    sealing::SealingContext,
    testkit::new_run,
    time::Timestamp,
};
use uuid::Uuid;

use crate::{Backend, at, run, thread};

const WINDOW: Window = Window { limit: 10, offset: 0 };

pub(crate) fn cron(n: u64, thread_id: Option<ThreadId>, next: i64) -> Cron {
    Cron {
        user: None,
        cron_id: CronId(Uuid::from_u64_pair(5, n)),
        assistant_id: AssistantId(Uuid::from_u64_pair(4, 1)),
        thread_id,
        on_run_completed: None,
        end_time: None,
        schedule: "* * * * *".into(),
        timezone: None,
        enabled: true,
        created_at: at(0),
        updated_at: at(0),
        user_id: String::new(),
        next_run_date: Some(at(next)),
        metadata: Object::from_iter([("n".to_owned(), n.into())]),
        payload: RawObject::from_iter([("input".to_owned(), raw(&json!({ "x": n })))]),
        sealing: SealingContext::default(),
    }
}

async fn due(backend: &Backend, now: i64) -> (Vec<CronId>, Option<Timestamp>) {
    let due = backend.storage.due_crons(at(now), 10).await.unwrap();
    (due.crons.into_iter().map(|cron| cron.cron_id).collect(), due.next_due)
}

#[tokio::test]
async fn a_cron_is_found_as_it_was_made() {
    let backend = Backend::new().await;
    let made = cron(1, None, 60);
    assert!(backend.storage.create_cron(made.clone(), MetadataFilter::default()).await.unwrap());
    let found = backend.storage.cron(made.cron_id).await.unwrap().unwrap();
    assert_eq!(json!(found), json!(made));
    assert!(
        !backend.storage.create_cron(cron(2, Some(thread(9)), 60), MetadataFilter::default()).await.unwrap(),
        "its thread does not exist"
    );
    assert!(backend.storage.delete_cron(made.cron_id, MetadataFilter::default()).await.unwrap());
    assert!(!backend.storage.delete_cron(made.cron_id, MetadataFilter::default()).await.unwrap());
}

#[tokio::test]
async fn only_open_crons_become_due() {
    let backend = Backend::new().await;
    backend.storage.create_cron(cron(1, None, 10), MetadataFilter::default()).await.unwrap();
    backend.storage.create_cron(Cron { enabled: false, ..cron(2, None, 10) }, MetadataFilter::default()).await.unwrap();
    backend
        .storage
        .create_cron(Cron { end_time: Some(at(9)), ..cron(3, None, 10) }, MetadataFilter::default())
        .await
        .unwrap();
    backend
        .storage
        .create_cron(Cron { end_time: Some(at(20)), ..cron(4, None, 20) }, MetadataFilter::default())
        .await
        .unwrap();
    assert_eq!(due(&backend, 9).await, (vec![], Some(at(10))));
    assert_eq!(due(&backend, 10).await, (vec![cron(1, None, 0).cron_id], Some(at(20))));
    assert_eq!(due(&backend, 20).await.0, [cron(1, None, 0).cron_id, cron(4, None, 0).cron_id]);
}

#[tokio::test]
async fn each_moment_makes_one_run() {
    let backend = Backend::new().await;
    let thread_id = backend.thread(1).await;
    let made = cron(1, Some(thread_id), 60);
    backend.storage.create_cron(made.clone(), MetadataFilter::default()).await.unwrap();
    let tick = |n, moment, next| {
        let run = Some(new_run(run(n), thread_id, at(moment)));
        backend.storage.tick_cron(CronTick { cron_id: made.cron_id, at: at(moment), next: Some(at(next)), run })
    };
    assert!(matches!(tick(1, 60, 120).await.unwrap(), Some(Some(CreatedRun::Created { .. }))));
    assert!(tick(2, 60, 120).await.unwrap().is_none(), "somebody else was faster");
    assert!(backend.storage.run_by_id(run(2)).await.unwrap().is_none());
    let mut busy = new_run(run(3), thread_id, at(120));
    busy.run.multitask_strategy = MultitaskStrategy::Reject;
    let refused = CronTick { cron_id: made.cron_id, at: at(120), next: None, run: Some(busy) };
    assert!(matches!(backend.storage.tick_cron(refused).await.unwrap(), Some(Some(CreatedRun::ThreadBusy))));
    assert_eq!(due(&backend, 9_999).await, (vec![], None), "the moment has passed all the same");
}

#[tokio::test]
async fn a_change_keeps_the_moment_unless_the_schedule_changed() {
    let backend = Backend::new().await;
    let made = cron(1, None, 60);
    backend.storage.create_cron(made.clone(), MetadataFilter::default()).await.unwrap();
    let moved = CronTick { cron_id: made.cron_id, at: at(60), next: Some(at(120)), run: None };
    backend.storage.tick_cron(moved).await.unwrap();
    let stale = Cron { enabled: false, updated_at: at(70), ..made.clone() };
    let changed = updated(backend.storage.update_cron(stale, made.updated_at, false).await.unwrap());
    assert_eq!((changed.next_run_date, changed.enabled, changed.updated_at), (Some(at(120)), false, at(70)));
    let rescheduled = Cron { next_run_date: Some(at(90)), ..changed };
    let changed = updated(backend.storage.update_cron(rescheduled, at(70), true).await.unwrap());
    assert_eq!(changed.next_run_date, Some(at(90)));
    let missing = backend.storage.update_cron(cron(9, None, 0), at(0), true).await.unwrap();
    assert!(matches!(missing, UpdatedCron::Missing));
}

#[tokio::test]
async fn a_change_of_what_changed_meanwhile_is_stale() {
    let backend = Backend::new().await;
    let made = cron(1, None, 60);
    backend.storage.create_cron(made.clone(), MetadataFilter::default()).await.unwrap();
    let change = |enabled| backend.storage.update_cron(Cron { enabled, ..made.clone() }, made.updated_at, false);
    // Within one moment of the clock, too.
    assert!(updated(change(false).await.unwrap()).updated_at > made.updated_at);
    assert!(matches!(change(true).await.unwrap(), UpdatedCron::Stale));
    assert!(!backend.storage.cron(made.cron_id).await.unwrap().unwrap().enabled);
}

fn updated(outcome: UpdatedCron) -> Cron {
    let UpdatedCron::Done(cron) = outcome else { panic!("not changed: {outcome:?}") };
    *cron
}

#[tokio::test]
async fn crons_are_found_and_go_with_what_they_belong_to() {
    let backend = Backend::new().await;
    let thread_id = backend.thread(1).await;
    backend.storage.create_cron(cron(1, None, 60), MetadataFilter::default()).await.unwrap();
    backend
        .storage
        .create_cron(Cron { enabled: false, ..cron(2, Some(thread_id), 50) }, MetadataFilter::default())
        .await
        .unwrap();
    let other = AssistantId(Uuid::from_u64_pair(4, 2));
    backend
        .storage
        .create_cron(Cron { assistant_id: other, ..cron(3, None, 70) }, MetadataFilter::default())
        .await
        .unwrap();
    let found = async |query: CronQuery| {
        let count = backend.storage.count_crons(query.clone()).await.unwrap();
        let page = backend.storage.search_crons(query, WINDOW).await.unwrap();
        assert_eq!(page.rows.len() as u64, count);
        page.rows.into_iter().map(|it| it.metadata["n"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let by_moment = CronQuery { sort_by: CronSort::NextRunDate, order: Order::Ascending, ..CronQuery::default() };
    assert_eq!(found(by_moment.clone()).await, [2, 1, 3]);
    assert_eq!(found(CronQuery { enabled: Some(false), ..by_moment.clone() }).await, [2]);
    assert_eq!(found(CronQuery { thread_id: Some(thread_id), ..by_moment.clone() }).await, [2]);
    assert_eq!(found(CronQuery { assistant_id: Some(other), ..by_moment.clone() }).await, [3]);
    let metadata = Object::from_iter([("n".to_owned(), 1.into())]);
    assert_eq!(found(CronQuery { metadata, ..by_moment.clone() }).await, [1]);
    backend.storage.delete_thread(thread_id, MetadataFilter::default()).await.unwrap();
    backend.storage.delete_assistant(other, MetadataFilter::default()).await.unwrap();
    assert_eq!(found(by_moment).await, [1]);
}

#[tokio::test]
async fn a_cron_outlives_the_process() {
    let backend = Backend::new().await;
    backend.storage.create_cron(cron(1, None, 60), MetadataFilter::default()).await.unwrap();
    let backend = backend.reopen().await;
    let due = backend.storage.due_crons(at(0) + Duration::from_hours(1), 10).await.unwrap();
    assert_eq!(due.crons.len(), 1);
}
