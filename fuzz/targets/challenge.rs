//! Fuzzes the parser of `WWW-Authenticate` headers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_bearer::fuzz::challenge(data));
