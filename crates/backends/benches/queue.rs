//! What the queue alone can do, without graphs: `cargo bench -p threadyard-backends --bench queue <postgres URI>`.
//!
//! Servers are instances of the storage in this process, each with a pool of its own, on a database that is made for
//! this and dropped.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use threadyard_backends::{PostgresConfig, PostgresStorage};
use threadyard_core::{
    ids::{LeaseId, RunId, ThreadId},
    json::Object,
    runs::{ClaimRuns, CreatedRun, EndStatus, Ending, Lease, NewLease, NewRun, Runs},
    testkit::new_run,
    time::Timestamp,
};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

const RUNS: usize = 12_000;
/// Requests that each server has under way.
const AT_ONCE: usize = 32;
const BATCH: u32 = 10;
const NOW: Timestamp = Timestamp(1_767_000_000_000_000);

fn main() {
    let Some(uri) = std::env::args().find(|argument| argument.contains("://")) else {
        println!("this benchmark needs the URI of a PostgreSQL server, such as postgres://root@127.0.0.1/postgres");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!(
        "| servers | created /s | claimed /s | claims of nothing /s | finished /s | created claimed, and finished /s | commits per run |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for servers in [1, 2, 4, 8] {
        runtime.block_on(measured(&uri, servers));
    }
}

async fn measured(uri: &str, servers: usize) {
    let name = format!("threadyard_bench_{}_{servers}", std::process::id());
    let admin = connect(uri).await;
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let (base, _) = uri.rsplit_once('/').unwrap();
    let uri = format!("{base}/{name}");
    let config = PostgresConfig::parse(&uri).unwrap();
    let mut opened = Vec::new();
    for _ in 0..servers {
        opened.push(Arc::new(PostgresStorage::open(&config).await.unwrap()));
    }

    let created = rate(&opened, |server, number| create(server, number, None)).await;
    let leases: Arc<Mutex<Vec<Lease>>> = Arc::default();
    let claimed = claims(&opened, &leases).await;
    let held = std::mem::take(&mut *leases.lock().unwrap());
    assert_eq!(held.len(), RUNS);
    let held = Arc::new(held);
    let nothing = rate(&opened, |server, _| async move { assert!(claim(&server, LeaseId(id(2, 0))).await.is_empty()) });
    let nothing = nothing.await;
    let finished = rate(&opened, move |server, number| finish(server, held[number])).await;
    let before = commits(&uri).await;
    let prompt = rate(&opened, |server, number| async move {
        let lease = NewLease { lease_id: LeaseId(id(3, number)), until: NOW + Duration::from_hours(1) };
        create(server.clone(), RUNS + number, Some(lease)).await;
        finish(server, Lease { run_id: RunId(id(1, RUNS + number)), lease_id: lease.lease_id }).await;
    });
    let prompt = prompt.await;
    let commits = (commits(&uri).await - before) / number_of(RUNS);
    println!("| {servers} | {created:.0} | {claimed:.0} | {nothing:.0} | {finished:.0} | {prompt:.0} | {commits:.2} |");
    drop(opened);
    admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}

/// How often a second something happens, with as much of it under way as the servers are asked for at once.
async fn rate<F>(
    servers: &[Arc<PostgresStorage>],
    work: impl Fn(Arc<PostgresStorage>, usize) -> F + Send + Clone + 'static,
) -> f64
where
    F: Future<Output = ()> + Send,
{
    let (next, begun) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut tasks = JoinSet::new();
    for server in servers.iter().flat_map(|server| std::iter::repeat_n(server, AT_ONCE)) {
        let (server, next, work) = (server.clone(), next.clone(), work.clone());
        tasks.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= RUNS {
                    return;
                }
                work(server.clone(), number).await;
            }
        });
    }
    tasks.join_all().await;
    number_of(RUNS) / begun.elapsed().as_secs_f64()
}

/// Each server has four dispatchers that take what there is until there is nothing.
async fn claims(servers: &[Arc<PostgresStorage>], leases: &Arc<Mutex<Vec<Lease>>>) -> f64 {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, server) in servers.iter().flat_map(|server| std::iter::repeat_n(server, 4)).enumerate() {
        let (server, leases) = (server.clone(), leases.clone());
        tasks.spawn(async move {
            for claims in 0.. {
                let got = claim(&server, LeaseId(id(2, number << 32 | claims))).await;
                if got.is_empty() && leases.lock().unwrap().len() == RUNS {
                    return;
                }
                leases.lock().unwrap().extend(got);
            }
        });
    }
    tasks.join_all().await;
    number_of(RUNS) / begun.elapsed().as_secs_f64()
}

async fn claim(server: &PostgresStorage, lease_id: LeaseId) -> Vec<Lease> {
    let claim = ClaimRuns { lease_id, limit: BATCH, now: NOW, until: NOW + Duration::from_hours(1) };
    server.claim_runs(claim).await.unwrap().runs.iter().map(|claimed| claimed.lease).collect()
}

async fn create(server: Arc<PostgresStorage>, number: usize, claim: Option<NewLease>) {
    let mut new = new_run(RunId(id(1, number)), ThreadId(id(0, number)), NOW);
    new.run.kwargs.temporary = true;
    let new = NewRun { create_thread: Some(Object::new()), claim, ..new };
    let created = server.create_run(new).await.unwrap();
    assert!(matches!(created, CreatedRun::Created { claimed: got, .. } if got.is_some() == claim.is_some()));
}

async fn finish(server: Arc<PostgresStorage>, lease: Lease) {
    let ending = Ending {
        status: EndStatus::Success,
        error: None,
        cause: None,
        values: None,
        thread: None,
        at: NOW,
        unsealed: false,
    };
    server.finish_run(lease, ending).await.unwrap();
}

fn id(kind: u64, number: usize) -> Uuid {
    Uuid::from_u64_pair(kind, number as u64)
}

async fn connect(uri: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(uri, NoTls).await.unwrap();
    let runtime = tokio::runtime::Handle::current();
    drop(runtime.spawn(connection));
    client
}

/// Transactions of the database so far, once the servers have reported theirs.
async fn commits(uri: &str) -> f64 {
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let sql = "SELECT xact_commit::float8 FROM pg_stat_database WHERE datname = current_database()";
    connect(uri).await.query_one(sql, &[]).await.unwrap().get(0)
}

#[expect(clippy::cast_precision_loss, reason = "a small count")]
fn number_of(count: usize) -> f64 {
    count as f64
}
