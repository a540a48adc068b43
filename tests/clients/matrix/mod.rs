//! Every client against every answer that concerns a token: what the servers count, what the callers see.

mod bodies;
mod challenges;
mod client;
mod connection_reuse;
mod faults;
mod fixture;
mod raw_codec;
mod rejections;
