//! Runs the unit tests of the proxy, because cargo builds examples without their tests.

#[path = "../../examples/proxy/origin_check.rs"]
mod origin_check;
#[path = "../../examples/proxy/upstreams.rs"]
mod upstreams;
