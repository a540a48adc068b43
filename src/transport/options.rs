//! This module holds the options of the transports over reqwest and hyper.

use std::{sync::Arc, time::Duration};

use zeroize::Zeroizing;

use super::tls_identity::{IdentityPem, TlsIdentity};
use crate::error::TokenError;

#[derive(Clone)]
pub(super) struct TransportOptions {
    /// Additional root certificates in DER.
    pub(super) roots: Vec<Zeroizing<Vec<u8>>>,
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
