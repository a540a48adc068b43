//! What can be set on the clients that come with the crate.

use std::{sync::Arc, time::Duration};

use super::tls_identity::{IdentityPem, TlsIdentity};
use crate::error::TokenError;

#[derive(Clone)]
pub(super) struct TransportOptions {
    /// PEM, each with at least one certificate.
    pub(super) roots: Vec<Box<[u8]>>,
    pub(super) connect_timeout: Duration,
    pub(super) identity: Option<TlsIdentity>,
}

impl TransportOptions {
    /// Certificate and key as they are now, if the client has any.
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
        "there is no certificate in the root certificates: give one or more in PEM",
    )
}
