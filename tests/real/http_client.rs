//! [`HttpClient`]: reqwest's client and hyper's, behind the layer, with the same way to send.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::Value;
use tower::{Layer, ServiceExt};
use tower_bearer::{
    AuthLayer, TokenError,
    layer::{Auth, Recovery},
    transport::Transport,
};

use crate::site::Site;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Reqwest,
    Hyper,
}

pub(crate) const KINDS: [Kind; 2] = [Kind::Reqwest, Kind::Hyper];

#[derive(Clone)]
pub(crate) enum HttpClient {
    Reqwest(Auth<reqwest::Client>),
    Hyper(Box<Auth<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>>),
}

/// What the caller of the API sees.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// What was done about a refusal.
    pub(crate) recovery: &'static str,
    /// What the API says about the token that arrived.
    pub(crate) claims: Value,
}

impl Kind {
    /// The token endpoint's transport of the same make.
    pub(crate) fn transport(self, site: &Site) -> Transport {
        site.trusted(match self {
            Self::Reqwest => Transport::reqwest(),
            Self::Hyper => Transport::hyper(),
        })
    }
}

impl HttpClient {
    pub(crate) fn new(kind: Kind, site: &Site, layer: &AuthLayer) -> Self {
        match kind {
            Kind::Reqwest => {
                let ca = site.ca();
                let ca = ca.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
                let client = reqwest::Client::builder().tls_certs_only(ca).build();
                Self::Reqwest(layer.layer(client.unwrap()))
            }
            Kind::Hyper => {
                let client = Client::builder(TokioExecutor::new()).build(connector(site.ca()));
                Self::Hyper(Box::new(layer.layer(client)))
            }
        }
    }

    /// Sends a body to the API, and says what came of it.
    pub(crate) async fn post(&self, url: &str, body: &str) -> Result<Answer, TokenError> {
        match self.clone() {
            Self::Reqwest(client) => {
                let mut request = reqwest::Request::new(http::Method::POST, url.parse().unwrap());
                *request.body_mut() = Some(body.to_owned().into());
                let response = client.oneshot(request).await.map_err(token_error)?;
                let status = response.status().as_u16();
                let recovery = response.extensions().get().map(Recovery::as_str);
                Ok(Answer::new(
                    status,
                    recovery,
                    &response.bytes().await.unwrap(),
                ))
            }
            Self::Hyper(client) => {
                let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
                let request = Request::post(url).body(body).unwrap();
                let response = client.oneshot(request).await.map_err(token_error)?;
                let status = response.status().as_u16();
                let recovery = response.extensions().get().map(Recovery::as_str);
                let body = response.into_body().collect().await.unwrap();
                Ok(Answer::new(status, recovery, &body.to_bytes()))
            }
        }
    }
}

impl Answer {
    fn new(status: u16, recovery: Option<&'static str>, body: &[u8]) -> Self {
        Self {
            status,
            recovery: recovery.unwrap_or("none"),
            claims: serde_json::from_slice(body).unwrap_or_default(),
        }
    }

    pub(crate) fn outcome(&self) -> (u16, &'static str) {
        (self.status, self.recovery)
    }
}

fn connector(ca_pem: Option<&str>) -> HttpsConnector<HttpConnector> {
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
    HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .build()
}

/// A refused token; any other failure has nothing to do with what is tested here.
fn token_error<E: std::fmt::Debug + std::fmt::Display>(
    error: tower_bearer::layer::Error<E>,
) -> TokenError {
    match error {
        tower_bearer::layer::Error::Token(error) => error,
        tower_bearer::layer::Error::Inner(error) => panic!("{error:?}"),
    }
}
