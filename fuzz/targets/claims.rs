//! Fuzzes the decoding of the claims in a challenge.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_bearer::fuzz::claims(data));
