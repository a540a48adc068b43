//! What a client of the authorization server authenticates with.

use std::fmt;

use super::public_key::PublicKey;

/// A registered client. Any of these authenticates it.
#[derive(Clone, Default)]
pub(super) struct Client {
    pub(super) secret: Option<String>,
    /// It may sign with any of them.
    pub(super) keys: Vec<PublicKey>,
    /// What somebody else signed for it.
    pub(super) assertion: Option<String>,
    /// The certificate that it shows, in DER.
    pub(super) certificate: Option<Vec<u8>>,
}

/// Without the secret and the assertion.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("secret", &self.secret.is_some())
            .field("keys", &self.keys.len())
            .field("assertion", &self.assertion.is_some())
            .field("certificate", &self.certificate.is_some())
            .finish()
    }
}
