//! The parts of the proxy that can be tried alone. Cargo builds examples without their tests, so these run here.

#[path = "../../examples/proxy/door.rs"]
mod door;
#[path = "../../examples/proxy/headers.rs"]
mod headers;
#[path = "../../examples/proxy/upstreams.rs"]
mod upstreams;
#[path = "../../examples/proxy/wish.rs"]
mod wish;
