//! This module holds the options of the transports over reqwest and hyper.

use std::{sync::Arc, time::Duration};

use super::tls_identity::{IdentityPem, TlsIdentity};
use crate::error::TokenError;

#[derive(Clone)]
pub(super) struct TransportOptions {
    /// PEM texts with at least one certificate each.
    pub(super) roots: Vec<Box<[u8]>>,
    pub(super) connect_timeout: Duration,
    pub(super) identity: Option<TlsIdentity>,
}

impl TransportOptions {
    /// Returns the current client certificate and key, if configured.
    pub(super) fn load_identity(&self) -> Result<Option<Arc<IdentityPem>>, TokenError> {
        self.identity.as_ref().map(TlsIdentity::load).transpose()
    }
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            identity: None,
        }
    }
}

pub(super) fn no_root_certificate() -> TokenError {
    TokenError::configuration(
        "the root certificates contain no certificate: provide one or more in PEM",
    )
}
