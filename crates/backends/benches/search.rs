//! What searches cost as threads become many: `cargo bench -p threadyard-backends --bench search [thousands …]`.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::{sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use threadyard_backends::SqliteStorage;
use threadyard_core::{
    ids::{RunId, ThreadId},
    json::{Object, raw},
    metadata_filter::MetadataFilter,
    page::Window,
    runs::RunQuery,
    storage::Storage,
    testkit::new_run,
    threads::{NewThread, ThreadOutcome, ThreadQuery, ThreadSort, ThreadStatus, ThreadUpdate},
    time::Timestamp,
};
use tokio::task::JoinSet;
use uuid::Uuid;

const ROUNDS: usize = 41;
const RUNS: u64 = 2_000;
const PAGE: Window = Window { limit: 10, offset: 0 };

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let wanted: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if wanted.is_empty() { vec![1, 10, 100] } else { wanted };
    let columns: Vec<_> = sizes.iter().map(|&size| runtime.block_on(measured(size * 1_000))).collect();
    let heads: Vec<_> = sizes.iter().map(|size| format!("{size}k threads, ms")).collect();
    println!("| | {} |\n| --- |{}", heads.join(" | "), " ---: |".repeat(sizes.len()));
    for (row, (name, _)) in columns[0].iter().enumerate() {
        let times: Vec<_> = columns.iter().map(|column| format!("{:.3}", column[row].1)).collect();
        println!("| {name} | {} |", times.join(" | "));
    }
}

/// The CPU milliseconds of each query, the median of its rounds.
async fn measured(threads: u64) -> Vec<(&'static str, f64)> {
    let folder = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(SqliteStorage::open(folder.path()).unwrap());
    fill(&storage, threads).await;
    let with = |metadata: Value| ThreadQuery { metadata: object(metadata), ..ThreadQuery::default() };
    let error = || ThreadQuery { status: Some(ThreadStatus::Error), ..ThreadQuery::default() };
    let searches = [
        ("a page of all", ThreadQuery::default()),
        ("a page of all, by `created_at`", ThreadQuery { sort_by: ThreadSort::CreatedAt, ..ThreadQuery::default() }),
        ("metadata of 10 threads", with(json!({"user": "user 7"}))),
        ("metadata of half of the threads", with(json!({"kind": 1}))),
        ("metadata of 500 threads that lie far behind", with(json!({"old": true}))),
        ("metadata that no thread has", with(json!({"user": "nobody"}))),
        ("status `error`, one thread in fifty", error()),
        ("status `busy`", ThreadQuery { status: Some(ThreadStatus::Busy), ..ThreadQuery::default() }),
        (
            "status `error`, metadata of half of the threads",
            ThreadQuery { metadata: object(json!({"kind": 1})), ..error() },
        ),
    ];
    let neither = (
        "status `error`, metadata that none of them has",
        ThreadQuery { metadata: object(json!({"fine": true})), ..error() },
    );
    let mut results = Vec::new();
    for (name, query) in searches.into_iter().chain([neither]) {
        let search = async || assert!(storage.search_threads(query.clone(), PAGE).await.is_ok());
        results.push((name, median(search).await));
    }
    for (name, query) in [
        ("count of all", ThreadQuery::default()),
        ("count, metadata of 10 threads", with(json!({"user": "user 7"}))),
        ("count, status `error`", error()),
    ] {
        results.push((name, median(async || assert!(storage.count_threads(query.clone()).await.is_ok())).await));
    }
    let runs = |offset, status| {
        let storage = storage.clone();
        let query = RunQuery { thread_id: thread(0), status };
        async move || assert!(storage.search_runs(query, Window { limit: 10, offset }).await.is_ok())
    };
    results.push(("a page of a thread's 2,000 runs", median(runs(0, None)).await));
    results.push(("a page in the middle of them", median(runs(1_000, None)).await));
    results
        .push(("the thread with 2,000 runs", median(async || assert!(storage.thread(thread(0)).await.is_ok())).await));
    results
}

/// Threads with five fields of metadata and a small state; every fiftieth failed, and one has many runs.
async fn fill(storage: &Arc<dyn Storage>, threads: u64) {
    let mut tasks = JoinSet::new();
    for n in 0..threads {
        let storage = storage.clone();
        tasks.spawn(async move {
            let mut metadata = object(json!({
                "graph_id": "agent", "user": format!("user {}", n % (threads / 10)), "kind": n / 2 % 2, "n": n,
                "fine": n % 50 != 0,
            }));
            if n < 500 {
                metadata.insert("old".into(), json!(true));
            }
            let now = at(n);
            storage.create_thread(NewThread { thread_id: thread(n), metadata, ttl: None, now }).await.unwrap();
            let update = ThreadUpdate {
                status: if n % 50 == 0 { ThreadStatus::Error } else { ThreadStatus::Idle },
                values: Some(raw(&json!({"messages": ["a text of some length ".repeat(40)]}))),
                outcome: ThreadOutcome { interrupts: raw(&json!({})), error: None },
                state: None,
            };
            storage.update_thread(thread(n), MetadataFilter::default(), update, now).await.unwrap();
        });
        if tasks.len() == 256 {
            tasks.join_next().await.unwrap().unwrap();
        }
    }
    tasks.join_all().await;
    for n in 0..RUNS {
        storage.create_run(new_run(RunId(Uuid::from_u64_pair(2, n)), thread(0), at(n))).await.unwrap();
    }
}

/// The CPU milliseconds of this process that an operation takes.
async fn median(operation: impl AsyncFn()) -> f64 {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let before = cpu();
        operation().await;
        times.push((cpu().as_secs_f64() - before.as_secs_f64()) * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn cpu() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

fn object(value: Value) -> Object {
    if let Value::Object(object) = value { object } else { panic!("{value}") }
}

fn thread(n: u64) -> ThreadId {
    ThreadId(Uuid::from_u64_pair(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n))
}

fn at(n: u64) -> Timestamp {
    Timestamp(1_767_000_000_000_000 + i64::try_from(n).unwrap() * 1_000)
}
