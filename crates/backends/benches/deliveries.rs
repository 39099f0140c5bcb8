//! What choosing deliveries costs as many wait: `cargo bench -p threadyard-backends --bench deliveries [thousands …]`.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};
use threadyard_backends::SqliteStorage;
use threadyard_core::{
    ids::LeaseId,
    time::Timestamp,
    webhooks::{ClaimDeliveries, Webhooks},
};
use uuid::Uuid;

const CLAIMS: usize = 400;
const NOW: Timestamp = Timestamp(1_767_000_000_000_000);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let wanted: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    println!("| waiting | origins | open, ms | claim p50, ms | claim p99, ms | memory, MiB |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for thousands in if wanted.is_empty() { vec![1, 100, 1_000] } else { wanted } {
        for origins in [1, 100] {
            runtime.block_on(measured(thousands * 1_000, origins));
        }
    }
}

/// Claims eight at a time, as a sender does to whom attempts come back one by one.
async fn measured(waiting: u64, origins: u64) {
    let folder = tempfile::tempdir().unwrap();
    drop(SqliteStorage::open(folder.path()).unwrap());
    fill(&folder.path().join("threadyard.db"), waiting, origins);
    let begin = Instant::now();
    let storage = SqliteStorage::open(folder.path()).unwrap();
    let open = begin.elapsed();
    let mut took = Vec::new();
    for n in 0..CLAIMS {
        let claim = ClaimDeliveries {
            lease_id: LeaseId(Uuid::from_u64_pair(9, n as u64)),
            limit: 256,
            bytes: usize::MAX,
            retries: 128,
            per_origin: if origins == 1 { 8 } else { 1 },
            rooms: BTreeMap::new(),
            from: String::new(),
            now: NOW,
            until: NOW + Duration::from_secs(45),
        };
        let begin = Instant::now();
        let claimed = storage.claim_deliveries(claim).await.unwrap();
        took.push(begin.elapsed().as_secs_f64() * 1e3);
        assert!(n > 1 || !claimed.deliveries.is_empty());
    }
    took.sort_by(f64::total_cmp);
    let (p50, p99) = (took[CLAIMS / 2], took[CLAIMS * 99 / 100]);
    let (open, memory) = (open.as_secs_f64() * 1e3, resident() / 1024);
    println!("| {waiting} | {origins} | {open:.0} | {p50:.2} | {p99:.2} | {memory} |");
}

/// Deliveries of 2 kB, all of them due.
fn fill(database: &std::path::Path, waiting: u64, origins: u64) {
    let mut connection = Connection::open(database).unwrap();
    let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(2_000));
    let transaction = connection.transaction().unwrap();
    let mut insert = transaction
        .prepare(
            "INSERT INTO delivery (id, run_id, thread_id, event, url, shown_url, origin, state, next_attempt_at,
                 created_at, scheduled_from)
             VALUES (?1, ?2, ?2, 'run.success', ?3, ?3, ?3, 'pending', ?4, ?4, ?4) RETURNING k",
        )
        .unwrap();
    let mut insert_body = transaction.prepare("INSERT INTO delivery_body (delivery, body) VALUES (?1, ?2)").unwrap();
    for n in 0..waiting {
        let origin = format!("https://receiver{}.example", n % origins);
        let due = NOW.0 - i64::try_from(waiting - n).unwrap();
        let run = Uuid::from_u64_pair(1, n);
        let id = format!("msg_{}_1", run.simple());
        let k: i64 = insert.query_row(params![id, run.as_bytes(), origin, due], |row| row.get(0)).unwrap();
        insert_body.execute(params![k, body]).unwrap();
    }
    drop((insert, insert_body));
    transaction.commit().unwrap();
}

/// The memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}
