//! The nouns of Threadyard, the transitions they may make, and the contracts between its crates.
//!
//! Nothing here does I/O or knows a framework. One noun, one file: `runs.rs` holds the type [`runs::Run`], what may
//! happen to it, and the storage contract [`runs::Runs`]; the same filename exists in every crate that works on runs.

pub mod ambient;
pub mod assistants;
pub mod bus;
pub mod cancel;
pub mod checkpoints;
pub mod crons;
pub mod deliveries;
pub mod events;
pub mod filter;
pub mod ids;
pub mod items;
pub mod json;
pub mod page;
pub mod queue;
pub mod retention;
mod run_kwargs;
pub mod runs;
pub mod runtime;
pub mod storage;
pub mod stream;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
pub mod threads;
pub mod time;
pub mod webhook_body;
pub mod webhook_keys;
pub mod webhook_pace;
pub mod webhook_policy;
pub mod webhooks;
