//! The nouns of Threadyard, the transitions they may make, and the contracts between its crates.
//!
//! Nothing here does I/O or knows a framework. One noun, one file: `runs.rs` holds the type [`runs::Run`], what may
//! happen to it, and the storage contract [`runs::Runs`]; the same filename exists in every crate that works on runs.

pub mod access;
pub mod agent_parts;
pub mod agent_task_json;
pub mod agent_task_list;
pub mod agent_tasks;
pub mod ambient;
pub mod api_keys;
pub mod assistants;
pub mod bus;
pub mod cancel;
pub mod checkpoints;
pub mod connections;
pub mod crons;
pub mod deliveries;
pub mod event_streaming;
pub mod events;
pub mod filter;
pub mod ids;
pub mod items;
pub mod json;
pub mod limits;
pub mod metadata_filter;
pub mod own_app;
pub mod ownership;
pub mod page;
pub mod push_configs;
pub mod queue;
pub mod retention;
mod run_kwargs;
pub mod runs;
pub mod runtime;
pub mod scopes;
pub mod sealing;
pub mod storage;
pub mod stream;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
pub mod threads;
pub mod time;
pub mod tokens;
pub mod trace_context;
pub mod webhook_body;
pub mod webhook_keys;
pub mod webhook_pace;
pub mod webhook_policy;
pub mod webhooks;
pub mod workers;
