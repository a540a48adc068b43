//! The parts of the proxy that can be tried alone. Cargo builds examples without their tests, so these run here.

#[path = "../../examples/proxy/headers.rs"]
mod headers;
#[path = "../../examples/proxy/origin_check.rs"]
mod origin_check;
#[path = "../../examples/proxy/requested_spec.rs"]
mod requested_spec;
#[path = "../../examples/proxy/upstreams.rs"]
mod upstreams;
