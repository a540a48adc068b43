//! Real clients over real sockets: what the servers count, what the callers see.

mod caller;
mod crowds;
mod grpc;
mod matrix;
mod recovery;
mod token_endpoint;
mod token_faults;
