//! This module holds helpers that are independent of tokens.

pub(crate) mod fingerprint;
pub(crate) mod length_prefixed;
pub(crate) mod loopback;
#[cfg(any(
    feature = "jwt",
    feature = "reqwest",
    feature = "hyper",
    feature = "testing"
))]
pub(crate) mod pem;
pub(crate) mod secret_json;
pub(crate) mod timer;
