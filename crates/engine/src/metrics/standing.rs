//! How things stand when somebody asks: nothing of it is counted in between.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::ConstCounter,
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::{Registry, Unit},
};
use threadyard_core::{connections::ConnectionState, runs::QueueStats, time::Timestamp, workers::Workers};

use super::PREFIX;
use crate::{Breaker, Destination};

pub(super) struct Standing {
    pub(super) queue: QueueStats,
    pub(super) destinations: Vec<Destination>,
    pub(super) workers: Workers,
    pub(super) connections: Vec<ConnectionState>,
    pub(super) now: Timestamp,
}

type Counts<L> = Family<L, Gauge>;
type Amounts<L> = Family<L, Gauge<f64, AtomicU64>>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Status {
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Place {
    worker: u64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct For {
    purpose: &'static str,
}

impl Standing {
    /// All of it, by name.
    pub(super) fn registry(self) -> Registry {
        let mut registry = Registry::with_prefix(PREFIX);
        queue(&mut registry, &self.queue);
        destinations(&mut registry, &self.destinations, self.now);
        workers(&mut registry, &self.workers);
        connections(&mut registry, &self.connections);
        registry
    }
}

fn queue(registry: &mut Registry, queue: &QueueStats) {
    let runs = Counts::<Status>::default();
    runs.get_or_create(&Status { status: "pending" }).set(count(queue.pending));
    runs.get_or_create(&Status { status: "running" }).set(count(queue.running));
    registry.register("runs_in_queue", "Runs that have not ended", runs);
    seconds(registry, "run_oldest_pending", "How long the oldest pending run has waited", queue.longest_wait);
}

fn destinations(registry: &mut Registry, destinations: &[Destination], now: Timestamp) {
    let is_open = |it: &&Destination| it.health.breaker == Breaker::Open;
    let is_parked = |it: &&Destination| is_open(it) || it.health.not_before.is_some_and(|moment| moment > now);
    let waiting = count(destinations.iter().map(|it| it.pending).sum());
    registry.register("webhook_queue_depth", "Deliveries that are to be sent", ConstGauge::new(waiting));
    let due = destinations.iter().filter(|it| !is_parked(it)).filter_map(|it| it.next_attempt_at).min();
    let late = due.map_or(Duration::ZERO, |due| now.since(due));
    seconds(registry, "webhook_oldest_due", "How long the oldest delivery has been due that is not parked", late);
    let open = count(destinations.iter().filter(is_open).count() as u64);
    registry.register("webhook_breaker_open", "Receivers that only get probes", ConstGauge::new(open));
}

fn workers(registry: &mut Registry, workers: &Workers) {
    let (runs, memory, lag) = (Counts::<Place>::default(), Counts::<Place>::default(), Amounts::<Place>::default());
    for (worker, state) in (0..).zip(&workers.processes) {
        runs.get_or_create(&Place { worker }).set(count(state.runs));
        memory.get_or_create(&Place { worker }).set(count(state.memory));
        lag.get_or_create(&Place { worker }).set(state.lag.as_secs_f64());
    }
    registry.register("worker_runs", "Runs that a worker process executes", runs);
    registry.register_with_unit("worker_memory", "Memory that a worker process occupies", Unit::Bytes, memory);
    let help = "How late the event loop of a worker process was, when it was last asked";
    registry.register_with_unit("worker_event_loop_lag", help, Unit::Seconds, lag);
    let help = "Worker processes that had to be replaced";
    registry.register("workers_replaced", help, ConstCounter::new(workers.replaced));
}

fn connections(registry: &mut Registry, connections: &[ConnectionState]) {
    let (limit, busy, waiting) = (Counts::<For>::default(), Counts::<For>::default(), Counts::<For>::default());
    for state in connections {
        let purpose = For { purpose: state.purpose };
        limit.get_or_create(&purpose).set(count(state.limit));
        busy.get_or_create(&purpose).set(count(state.busy));
        waiting.get_or_create(&purpose).set(count(state.waiting));
    }
    registry.register("database_connections_limit", "Connections to the database that there may be", limit);
    registry.register("database_connections_busy", "Connections to the database in use", busy);
    registry.register("database_connections_waiting", "Callers that wait for a connection to the database", waiting);
}

fn seconds(registry: &mut Registry, name: &str, help: &str, duration: Duration) {
    registry.register_with_unit(name, help, Unit::Seconds, ConstGauge::new(duration.as_secs_f64()));
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use threadyard_core::workers::WorkerState;

    use super::*;
    use crate::{Health, metrics::assert_shows};

    fn seconds(seconds: u64) -> Timestamp {
        Timestamp(0) + Duration::from_secs(seconds)
    }

    fn destination(pending: u64, due: Option<u64>, health: Health) -> Destination {
        Destination { origin: "https://a.test".into(), pending, next_attempt_at: due.map(seconds), health }
    }

    #[test]
    fn what_stands_is_told_as_it_is() {
        let open = Health { breaker: Breaker::Open, ..Health::default() };
        let asked = Health { not_before: Some(seconds(101)), ..Health::default() };
        let left_alone = Health { not_before: Some(seconds(100)), ..Health::default() };
        let worker = WorkerState { runs: 3, memory: 4_096, lag: Duration::from_millis(250) };
        let standing = Standing {
            queue: QueueStats {
                pending: 5,
                running: 2,
                longest_wait: Duration::from_secs(7),
                median_wait: Duration::from_secs(1),
            },
            // The first two are not due, whatever is to be sent to them.
            destinations: vec![
                destination(10, Some(10), open),
                destination(20, Some(20), asked),
                destination(1, Some(60), left_alone),
                destination(2, Some(90), Health::default()),
                destination(0, None, Health::default()),
            ],
            workers: Workers { processes: vec![WorkerState::default(), worker], replaced: 6 },
            connections: vec![ConnectionState { purpose: "read", limit: 8, busy: 4, waiting: 9 }],
            now: seconds(100),
        };
        let lines = [
            r#"threadyard_runs_in_queue{status="pending"} 5"#,
            r#"threadyard_runs_in_queue{status="running"} 2"#,
            "threadyard_run_oldest_pending_seconds 7.0",
            "threadyard_webhook_queue_depth 33",
            "threadyard_webhook_oldest_due_seconds 40.0",
            "threadyard_webhook_breaker_open 1",
            r#"threadyard_worker_runs{worker="1"} 3"#,
            r#"threadyard_worker_memory_bytes{worker="1"} 4096"#,
            r#"threadyard_worker_event_loop_lag_seconds{worker="1"} 0.25"#,
            r#"threadyard_worker_runs{worker="0"} 0"#,
            "threadyard_workers_replaced_total 6",
            r#"threadyard_database_connections_limit{purpose="read"} 8"#,
            r#"threadyard_database_connections_busy{purpose="read"} 4"#,
            r#"threadyard_database_connections_waiting{purpose="read"} 9"#,
        ];
        assert_shows(&standing.registry(), &lines);
    }
}
