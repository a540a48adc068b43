//! Tests real clients over real sockets, by what the servers count and the callers receive.

mod concurrency;
#[path = "../support/connector.rs"]
mod connector;
mod fixture;
mod grpc;
mod matrix;
#[cfg(feature = "reqwest-middleware")]
mod middleware;
mod reqwest_http;
mod token_endpoint;
mod token_faults;
