//! Real clients over real sockets: what the servers count, what the callers see.

mod caller;
mod concurrency;
mod grpc;
mod matrix;
#[cfg(feature = "reqwest-middleware")]
mod middleware;
mod recovery;
mod reqwest_http;
mod token_endpoint;
mod token_faults;
