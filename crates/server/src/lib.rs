//! The LangGraph Server API over HTTP, and everything that makes it one program: configuration, wiring, commands.

pub mod api;
pub mod app;
pub mod commands;
pub mod config;
pub mod encryption;
mod lifecycle;
pub mod limits;
mod listen;
pub mod proxies;
mod sharing;
mod telemetry;
