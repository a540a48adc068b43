//! Tests the egress proxy as a separate process, over real sockets.

mod bodies;
mod client_auth;
mod configuration;
mod curl;
mod error_responses;
mod headers;
mod http_versions;
mod memory;
mod origin_checks;
mod paths;
mod scope_headers;
#[allow(dead_code)]
#[path = "../real/server.rs"]
mod server;
mod shutdown;
mod status_pages;
mod support;
#[path = "../support/temp_folder.rs"]
mod temp_folder;
mod tokens;
#[allow(dead_code)]
mod unit_tests;
