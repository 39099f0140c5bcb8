//! The HTTP API: one file for each noun, one table of routes, one table of errors.

mod access;
mod assistants;
mod checkpoints;
mod crons;
mod deliveries;
mod destinations;
mod docs;
mod error;
mod extract;
mod items;
mod metrics;
mod openapi;
mod opening;
mod page;
mod router;
mod runs;
mod sse;
mod stateless_runs;
mod system;
mod threads;
mod webhook_keys;

pub use access::OperatorAccess;
pub use openapi::document;
pub(crate) use opening::opening;
pub use router::{REFUSED, SERVED, router};
