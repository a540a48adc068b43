//! Tests every client against every response that concerns a token.

pub(crate) mod bodies;
mod challenges;
pub(crate) mod client;
mod connection_reuse;
mod faults;
pub(crate) mod fixture;
mod raw_codec;
mod rejections;
