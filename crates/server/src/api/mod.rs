//! The HTTP API: one file for each noun, one table of routes, one table of errors.

mod assistants;
mod checkpoints;
mod crons;
mod docs;
mod error;
mod extract;
mod items;
mod page;
mod router;
mod runs;
mod sse;
mod stateless_runs;
mod system;
mod threads;

pub use router::{REFUSED, SERVED, router};
