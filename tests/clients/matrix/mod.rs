//! Every client against every answer that concerns a token: what the servers count, what the callers see.

pub(crate) mod bodies;
mod challenges;
pub(crate) mod client;
mod connection_reuse;
mod faults;
pub(crate) mod fixture;
mod raw_codec;
mod rejections;
