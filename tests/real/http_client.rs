//! Wraps reqwest's and hyper's client, behind the layer, in one interface.

use std::fmt::Debug;

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tower::{Layer, ServiceExt};
use tower_bearer::{
    AuthLayer, TokenCache, TokenError, TokenSpec,
    layer::{Auth, Error, Recovery},
    transport::Transport,
};

use crate::{connector::connector, server::Server};

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

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) recovery: &'static str,
    /// The claims of the token, as the API received it.
    pub(crate) claims: Value,
}

impl Kind {
    /// Returns the transport that uses the same HTTP library.
    pub(crate) fn transport(self, site: &Server) -> Transport {
        site.trusted(match self {
            Self::Reqwest => Transport::reqwest(),
            Self::Hyper => Transport::hyper(),
        })
    }
}

impl HttpClient {
    /// Returns a client whose requests to the API get tokens of this spec.
    pub(crate) fn new(kind: Kind, site: &Server, cache: &TokenCache, spec: TokenSpec) -> Self {
        let layer = AuthLayer::new(cache.clone());
        let layer = layer.route(site.api_root(), spec).unwrap();
        match kind {
            Kind::Reqwest => {
                let ca = site.ca();
                let ca = ca.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
                let client = reqwest::Client::builder().tls_certs_only(ca).build();
                Self::Reqwest(layer.layer(client.unwrap()))
            }
            Kind::Hyper => {
                let client =
                    Client::builder(TokioExecutor::new()).build(connector(site.ca(), false));
                Self::Hyper(Box::new(layer.layer(client)))
            }
        }
    }

    pub(crate) async fn post(&self, url: &str, body: &str) -> Result<Response, TokenError> {
        match self.clone() {
            Self::Reqwest(client) => {
                let mut request = reqwest::Request::new(http::Method::POST, url.parse().unwrap());
                *request.body_mut() = Some(body.to_owned().into());
                let response = client.oneshot(request).await.map_err(token_error)?;
                Ok(Response::read(response.into()).await)
            }
            Self::Hyper(client) => {
                let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
                let request = Request::post(url).body(body).unwrap();
                let response = client.oneshot(request).await.map_err(token_error)?;
                Ok(Response::read(response).await)
            }
        }
    }
}

impl Response {
    async fn read<B: Body<Error: Debug>>(response: http::Response<B>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            status: parts.status.as_u16(),
            recovery: parts.extensions.get().map_or("none", Recovery::as_str),
            claims: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }

    pub(crate) fn outcome(&self) -> (u16, &'static str) {
        (self.status, self.recovery)
    }
}

/// Returns the token's error, and panics on any other.
fn token_error<E: Debug>(error: Error<E>) -> TokenError {
    match error {
        Error::Token(error) => error,
        Error::Inner(error) => panic!("{error:?}"),
    }
}
