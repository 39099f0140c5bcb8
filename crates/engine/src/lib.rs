//! What Threadyard can do: use cases that answer one request, and loops that keep runs and webhooks going.
//!
//! The engine knows neither SQL, nor routing, nor child processes: it works on the contracts of `threadyard-core`.

mod assistants;
mod checkpoints;
mod crons;
mod deliveries;
mod destinations;
mod engine;
mod error;
mod events;
mod faults;
mod items;
mod loops;
mod metrics;
mod origins;
mod outbox;
mod role;
mod run_config;
mod run_fields;
mod run_task;
mod running;
mod runs;
mod schedule;
pub mod signing;
mod slots;
mod stream;
mod thread_stream;
mod threads;
mod webhook_client;
mod webhook_dns;
mod webhook_keys;

pub use assistants::AssistantRequest;
pub use checkpoints::{CheckpointRef, HistoryQuery, UpdateState, UpdatedState};
pub use crons::CronFields;
pub use destinations::{Destination, TestSent};
pub use engine::{Engine, Parts, Settings, Sweep};
pub use error::{Error, Result};
pub use faults::Faults;
pub use items::{Indexing, ItemQuery, PutItem};
pub use origins::{Breaker, Health};
pub use role::Role;
pub use run_fields::RunFields;
pub use runs::{CancelRuns, RunRequest, StartedRun, ThreadChoice};
pub use stream::RunStream;
pub use thread_stream::{ThreadStream, ThreadStreamMode};
pub use threads::ThreadRequest;
pub use webhook_keys::USUAL_GRACE;
