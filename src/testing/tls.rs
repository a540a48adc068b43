//! Generates a certificate authority for tests, and signs the certificates of servers and clients.

use std::fmt;
use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::client_certificate::ClientCertificate;

/// A certificate authority for the servers and clients of a test.
#[derive(Clone)]
pub(super) struct CertificateAuthority {
    ca_pem: Arc<str>,
    issuer: Arc<Issuer<'static, KeyPair>>,
    /// The server's certificate and key.
    chain: CertificateDer<'static>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl CertificateAuthority {
    /// Generates the keys and a server certificate for `localhost`, `127.0.0.1` and `::1`.
    pub(super) fn generate() -> io::Result<Self> {
        let ca_key = KeyPair::generate().map_err(io::Error::other)?;
        let ca = ca_params()?;
        let ca_pem = ca.self_signed(&ca_key).map_err(io::Error::other)?.pem();
        let issuer = Issuer::new(ca, ca_key);

        let hosts = ["localhost", "127.0.0.1", "::1"];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = leaf_params("localhost", &hosts, ExtendedKeyUsagePurpose::ServerAuth)?
            .signed_by(&key, &issuer)
            .map_err(io::Error::other)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Self {
            ca_pem: ca_pem.into(),
            issuer: Arc::new(issuer),
            chain: certificate.der().clone(),
            key: Arc::new(key),
        })
    }

    /// Creates a certificate for a client.
    pub(super) fn client(&self, id: &str) -> io::Result<ClientCertificate> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = leaf_params(id, &[], ExtendedKeyUsagePurpose::ClientAuth)?
            .signed_by(&key, &self.issuer)
            .map_err(io::Error::other)?;
        Ok(ClientCertificate {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().to_vec(),
        })
    }

    pub(super) fn ca_pem(&self) -> String {
        self.ca_pem.to_string()
    }

    /// Returns an acceptor that requests no client certificates.
    pub(super) fn acceptor(&self) -> io::Result<TlsAcceptor> {
        self.accepting(WebPkiClientVerifier::no_client_auth())
    }

    /// Returns an acceptor that requests client certificates and also accepts clients without one.
    pub(super) fn mutual_tls_acceptor(&self) -> io::Result<TlsAcceptor> {
        let mut roots = RootCertStore::empty();
        let ca =
            CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).map_err(io::Error::other)?;
        roots.add(ca).map_err(io::Error::other)?;
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(io::Error::other)?;
        self.accepting(verifier)
    }

    fn accepting(&self, verifier: Arc<dyn ClientCertVerifier>) -> io::Result<TlsAcceptor> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.chain.clone()], self.key.clone_key())
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority")
            .finish_non_exhaustive()
    }
}

fn ca_params() -> io::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "throwaway test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Returns the parameters of a certificate for a server or a client.
fn leaf_params(
    name: &str,
    hosts: &[&str],
    usage: ExtendedKeyUsagePurpose,
) -> io::Result<CertificateParams> {
    let hosts: Vec<_> = hosts.iter().copied().map(String::from).collect();
    let mut params = CertificateParams::new(hosts).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_and_debug_output_contain_no_private_key() {
        let authority = CertificateAuthority::generate().unwrap();
        assert!(
            authority
                .ca_pem()
                .starts_with("-----BEGIN CERTIFICATE-----")
        );
        assert!(!authority.ca_pem().contains("KEY"));
        assert_eq!(format!("{authority:?}"), "CertificateAuthority { .. }");
    }
}
