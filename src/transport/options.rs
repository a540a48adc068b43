//! What can be set on the clients that come with the crate.

use std::time::Duration;

use crate::error::TokenError;

#[derive(Clone)]
pub(super) struct Options {
    /// PEM, each with at least one certificate.
    pub(super) roots: Vec<Box<[u8]>>,
    pub(super) connect_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

pub(super) fn no_certificate() -> TokenError {
    TokenError::configuration(
        "there is no certificate in the root certificates: give one or more in PEM",
    )
}
