//! Where webhooks may go, and what is shown of that; what must hold is in the crate.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| threadyard_core::testkit::fuzzing::webhook_urls(data));
