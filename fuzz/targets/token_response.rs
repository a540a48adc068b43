//! Fuzzes the parser of token responses.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_bearer::fuzz::token_response(data));
