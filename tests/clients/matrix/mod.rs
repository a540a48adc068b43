//! Every client against every answer that concerns a token: what the servers count, what the callers see.

mod bodies;
mod challenges;
mod client;
mod connections;
mod faults;
mod raw;
mod refusals;
mod stage;
