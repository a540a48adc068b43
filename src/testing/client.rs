//! Defines the credentials of a client that is registered with the authorization server.

use std::fmt;

use super::public_key::PublicKey;

/// A registered client. Each of its credentials is sufficient.
#[derive(Clone, Default)]
pub(super) struct Client {
    pub(super) secret: Option<String>,
    /// The public keys that verify its signed assertions.
    pub(super) keys: Vec<PublicKey>,
    /// An assertion signed by a third party, compared as a whole.
    pub(super) assertion: Option<String>,
    /// The client's TLS certificate in DER.
    pub(super) certificate: Option<Vec<u8>>,
}

/// Omits the secret and the assertion.
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
