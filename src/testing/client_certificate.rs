//! A certificate for a client, as the server's own authority signs it.

use std::fmt;

/// A client's certificate and its key, for mutual TLS with an
/// [`AuthorizationServer`](super::AuthorizationServer::client_certificate).
#[derive(Clone)]
pub struct ClientCertificate {
    pub(super) certificate_pem: String,
    pub(super) key_pem: String,
    pub(super) der: Vec<u8>,
}

impl ClientCertificate {
    /// The certificate in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key in PEM.
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
