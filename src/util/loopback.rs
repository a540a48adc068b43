//! This module recognizes loopback hosts, whose traffic does not leave the machine.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Returns `true` for 127.0.0.0/8, `[::1]` (in brackets, as in a URL) and `localhost`.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = bracketed {
        return address.parse().is_ok_and(|v6: Ipv6Addr| v6.is_loopback());
    }
    host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|v4: Ipv4Addr| v4.is_loopback())
}
