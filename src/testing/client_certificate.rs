//! Defines the client certificate that a test server's certificate authority signs.

use std::fmt;

/// A client certificate and its private key for mutual TLS, created by
/// [`AuthorizationServer::client_certificate`](super::AuthorizationServer::client_certificate).
#[derive(Clone)]
pub struct ClientCertificate {
    pub(super) certificate_pem: String,
    pub(super) key_pem: String,
    pub(super) der: Vec<u8>,
}

impl ClientCertificate {
    /// Returns the certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns the private key as PEM.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_key() {
        let certificate = ClientCertificate {
            certificate_pem: "hidden".into(),
            key_pem: "hidden".into(),
            der: Vec::new(),
        };
        assert_eq!(format!("{certificate:?}"), "ClientCertificate { .. }");
    }
}
