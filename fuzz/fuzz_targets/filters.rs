//! What searches and authorization handlers filter by; what must hold is in the crate.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| threadyard_core::testkit::fuzzing::filters(data));
