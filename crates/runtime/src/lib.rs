//! The user's project and the worker processes that execute its graphs (docs/worker-protocol.md).
//!
//! [`Project`] reads `langgraph.json`, [`python`] finds or makes the interpreter, and [`ProcessRuntime`] implements
//! `threadyard_core::runtime::GraphRuntime` with a pool of worker processes.

mod callbacks;
mod child;
mod connection;
mod control;
mod embedded;
mod environment;
mod frame;
mod index;
mod items;
mod launch;
mod no_graphs;
mod process;
mod project;
mod protocol;
mod retention;
mod session;
#[cfg(test)]
mod transcripts;
mod watch;
mod webhook_pace;
mod webhooks;
mod worker;
mod zygote;

pub use launch::{LaunchError, python};
pub use no_graphs::NoGraphs;
pub use process::{ProcessRuntime, ProcessRuntimeConfig};
pub use project::{Project, ProjectError};
pub use retention::SweepChoice;
pub use webhooks::WebhookRules;
