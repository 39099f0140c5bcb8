//! Deterministic doubles for tests: a clock that stands still, ids that count, a runtime that plays a script.

mod builders;
mod clock;
pub mod fuzzing;
mod runtime;

pub use builders::{new_run, sample_checkpoint};
pub use clock::{CountingIds, ManualClock, ambient};
pub use runtime::{Gate, ScriptedRun, ScriptedRuntime, run_end};
