//! The parts of the proxy that can be tried alone. Cargo builds examples without their tests, so these run here.

#[path = "../../examples/proxy/origin_check.rs"]
mod origin_check;
#[path = "../../examples/proxy/upstreams.rs"]
mod upstreams;
