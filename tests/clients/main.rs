//! Real clients over real sockets: what the servers count, what the callers see.

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
