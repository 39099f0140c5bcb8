//! The LangGraph Server API over HTTP, and everything that makes it one program: configuration, wiring, commands.

pub mod api;
pub mod app;
pub mod commands;
pub mod config;
mod lifecycle;
mod listen;
mod sharing;
mod telemetry;
