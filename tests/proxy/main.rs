//! The egress proxy as a process of its own, driven over real sockets: one test for each thing that it says of itself.

#[allow(dead_code)]
mod alone;
mod bodies;
mod configuration;
mod curl;
mod door;
mod ending;
mod headers;
mod memory;
mod pages;
mod paths;
mod problems;
mod proofs;
#[allow(dead_code)]
#[path = "../real/site.rs"]
mod site;
mod support;
mod tokens;
mod versions;
mod wishes;
