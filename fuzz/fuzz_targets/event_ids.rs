//! What a client that comes back says it has heard; what must hold is in the crate.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| threadyard_core::testkit::fuzzing::event_ids(data));
