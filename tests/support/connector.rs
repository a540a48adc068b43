//! Builds a connector of hyper for HTTP and HTTPS.

use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Returns a connector that trusts the given authority and, without `http2`, uses only HTTP/1.1.
pub(crate) fn connector(ca_pem: Option<&str>, http2: bool) -> HttpsConnector<HttpConnector> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = ca_pem {
        let ca = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        roots.add(ca).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http();
    match http2 {
        true => builder.enable_all_versions().build(),
        false => builder.enable_http1().build(),
    }
}
