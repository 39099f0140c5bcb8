//! What a worker says; what must hold is in the crate.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| threadyard_runtime::fuzzing::frames(data));
