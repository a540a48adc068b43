//! Fuzzes the parser of authorization server metadata.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_bearer::fuzz::metadata(data));
