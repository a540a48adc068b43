//! What a provider says of itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_bearer::fuzz::metadata(data));
