//! What a client proves itself with, other than a secret.

use std::fmt;

use super::public_key::PublicKey;

#[derive(Clone, Default)]
pub(super) struct Registered {
    /// It may sign with any of them.
    pub(super) keys: Vec<PublicKey>,
    /// What somebody else signed for it.
    pub(super) assertion: Option<String>,
    /// The certificate that it shows, in DER.
    pub(super) certificate: Option<Vec<u8>>,
}

/// Without the assertion.
impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered")
            .field("keys", &self.keys.len())
            .field("assertion", &self.assertion.is_some())
            .field("certificate", &self.certificate.is_some())
            .finish()
    }
}
