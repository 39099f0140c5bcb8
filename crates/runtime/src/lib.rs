//! The user's project and the worker processes that execute its graphs (docs/worker-protocol.md).
//!
//! [`Project`] reads `langgraph.json`, [`prepare`] finds or makes what runs it, and [`ProcessRuntime`] implements
//! `threadyard_core::runtime::GraphRuntime` with a pool of worker processes.

mod auth;
mod auxiliary;
mod callbacks;
mod child;
mod connection;
mod control;
mod custom_app;
mod embedded;
mod encryption;
mod environment;
mod exchange;
mod frame;
#[cfg(any(test, feature = "testkit"))]
pub mod fuzzing;
mod index;
mod items;
mod language;
mod launch;
mod load;
mod no_graphs;
mod pool;
mod process;
mod project;
mod protocol;
mod retention;
mod serde_rules;
mod session;
#[cfg(test)]
mod transcripts;
mod ui;
mod watch;
mod webhook_pace;
mod webhooks;
mod worker;
mod zygote;

pub use auth::{AuthCache, AuthConfig, CustomAuth};
pub use custom_app::{AppScope, CustomApp, PassedOn, PassedOnReceiver, PassedScope, Refusal, Target};
pub use encryption::CustomEncryption;
pub use exchange::{AppMessage, Exchange, ExchangeLost, ExchangeReceiver, ExchangeSender};
pub use launch::{Interpreters, LaunchError, install_packages, prepare};
pub use no_graphs::{NoGraphs, ShutGate};
pub use process::{ProcessRuntime, ProcessRuntimeConfig};
pub use project::{
    AuthDecider, AuthOptions, CorsRules, Disabled, Env, Graph, HeaderPatterns, HttpOptions, Project, ProjectError,
    UiOptions, WithoutEffect, mount_prefix,
};
pub use retention::SweepChoice;
pub use serde_rules::{Classes, SerdeRules};
pub use ui::{UiBundle, UiBundles, UiFile};
pub use webhooks::WebhookRules;
