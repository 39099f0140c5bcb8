//! How SQLite goes about what must not become slow as a database grows.

use serde_json::{Value, json};
use threadyard_core::{
    json::Object,
    page::Order,
    threads::{ThreadQuery, ThreadSort, ThreadStatus},
};

use super::{
    Connection, connect, limits, queue,
    runs::LISTED,
    sql::Sql,
    thread_search::{Among, in_order, page},
    webhooks::{DUE, DUE_AT_ORIGIN, NEW_AT_ORIGIN, NEXT_DUE, NEXT_ORIGIN, WAITING},
};
use crate::{SqliteStorage, cipher::Cipher};

/// Explains statements on an empty database.
struct Planner {
    connection: Connection,
    _folder: tempfile::TempDir,
}

impl Planner {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        drop(SqliteStorage::open(folder.path()).unwrap());
        let connection =
            connect(&folder.path().join("threadyard.db"), rusqlite::OpenFlags::default(), &Cipher::none()).unwrap();
        Self { connection, _folder: folder }
    }

    fn plan(&self, sql: &Sql) -> String {
        self.explain(&sql.text, &sql.parameters())
    }

    fn explain(&self, sql: &str, parameters: &[&dyn rusqlite::ToSql]) -> String {
        let mut statement = self.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map(parameters, |row| row.get::<_, String>("detail")).unwrap();
        steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
    }
}

fn object(value: Value) -> Object {
    if let Value::Object(object) = value { object } else { panic!("{value}") }
}

#[test]
fn pages_of_threads_are_read_in_order() {
    let planner = Planner::new();
    let all = ThreadQuery::default;
    let marked = || ThreadQuery { metadata: object(json!({"user": "ann"})), ..all() };
    let with_status = |status| ThreadQuery { status: Some(status), ..marked() };
    let sorted = |sort_by| ThreadQuery { sort_by, ..all() };
    let every = Among::All(None);
    for (sql, index) in [
        (page(&every, &all()).unwrap(), "thread_updated"),
        (page(&every, &ThreadQuery { order: Order::Ascending, ..all() }).unwrap(), "thread_updated"),
        (page(&every, &sorted(ThreadSort::CreatedAt)).unwrap(), "thread_created"),
        (page(&every, &sorted(ThreadSort::StateUpdatedAt)).unwrap(), "thread_state_updated"),
        (page(&every, &sorted(ThreadSort::ThreadId)).unwrap(), "sqlite_autoindex_thread"),
        (in_order(&marked()).unwrap(), "thread_updated"),
        (in_order(&with_status(ThreadStatus::Idle)).unwrap(), "thread_status"),
        (page(&every, &with_status(ThreadStatus::Error)).unwrap(), "thread_status"),
    ] {
        let plan = planner.plan(&sql);
        assert!(plan.contains(&format!("INDEX {index}")), "{index}: {plan}");
        assert!(!plan.contains("TEMP B-TREE FOR ORDER BY"), "{index}: {plan}");
    }
}

#[test]
fn few_threads_are_looked_up() {
    let planner = Planner::new();
    for (among, step) in [
        (Among::Tag(1), "SEARCH thread_tag USING PRIMARY KEY (tag=?); SEARCH thread USING INTEGER PRIMARY KEY"),
        (Among::Ids("[]".into()), "SEARCH thread USING INDEX sqlite_autoindex_thread_1 (id=?)"),
        (Among::Open, "SEARCH thread USING INTEGER PRIMARY KEY"),
    ] {
        let plan = planner.plan(&page(&among, &ThreadQuery::default()).unwrap());
        assert!(plan.contains(step) && !plan.contains("SCAN thread"), "{step}: {plan}");
    }
}

#[test]
fn a_page_of_runs_is_read_in_order() {
    let plan = Planner::new().explain(LISTED, &[&[0_u8; 16], &None::<String>, &11, &0]);
    assert!(plan.contains("SEARCH run USING INDEX run_thread (thread=?)"), "{plan}");
    assert!(!plan.contains("TEMP B-TREE"), "{plan}");
}

#[test]
fn tasks_are_found_by_the_index_alone() {
    let plan = Planner::new().explain(super::agent_tasks::LISTED, &[&[0_u8; 16], &None::<Vec<u8>>]);
    assert!(plan.contains("SEARCH run USING INDEX run_task (assistant_id=?)"), "{plan}");
    assert!(!plan.contains("TEMP B-TREE") && !plan.contains("SCAN"), "{plan}");
}

#[test]
fn deliveries_are_chosen_without_reading_rows() {
    let planner = Planner::new();
    for (sql, parameters) in [
        (DUE, &[&1 as &dyn rusqlite::ToSql, &1][..]),
        (DUE_AT_ORIGIN, &[&"a", &1, &1]),
        (NEW_AT_ORIGIN, &[&"a", &1, &1]),
        (NEXT_DUE, &[&1]),
        (NEXT_ORIGIN, &[&"a"]),
        (WAITING, &[]),
    ] {
        let plan = planner.explain(sql, parameters);
        assert!(plan.contains("COVERING INDEX") && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
    }
}

#[test]
fn runs_that_have_ended_cost_the_queue_nothing() {
    let planner = Planner::new();
    for (sql, parameters, steps) in [
        (
            queue::OLDEST,
            &[&1 as &dyn rusqlite::ToSql, &1][..],
            &["run_queue (due_at<?)", "run_one_running", "run_open"][..],
        ),
        (limits::OLDEST, &[&1], &["run_queue (due_at<?)", "run_one_running", "run_open"]),
        (queue::EXPIRED, &[&1], &["run_leased (lease_until<?)"]),
    ] {
        let plan = planner.explain(sql, parameters);
        assert!(steps.iter().all(|step| plan.contains(step)), "{sql}: {plan}");
        assert!(!plan.contains("SCAN due USING") && !plan.contains("SCAN run"), "{sql}: {plan}");
    }
}
