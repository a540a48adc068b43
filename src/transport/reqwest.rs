//! Token endpoints over reqwest.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use reqwest::{Certificate, Client, ClientBuilder, Identity, redirect::Policy};

use super::{
    body::BodyCollector,
    client_pool::HttpClient,
    fault::{RequestStage, build_error, request_error},
    options::{TransportOptions, no_root_certificate},
    tls_identity::IdentityPem,
};
use crate::error::TokenError;

impl HttpClient for Client {
    fn build_secure(
        options: &TransportOptions,
        max_idle: usize,
        identity: Option<&IdentityPem>,
    ) -> Result<Self, TokenError> {
        let mut roots = Vec::new();
        for pem in &options.roots {
            roots.extend(certificates(pem)?);
        }
        let mut builder = builder(options, max_idle)
            .tls_certs_merge(roots)
            .https_only(true);
        if let Some(pair) = identity {
            let identity = Identity::from_pem(pair.pem.as_bytes()).map_err(build_error)?;
            builder = builder.identity(identity);
        }
        builder.build().map_err(build_error)
    }

    fn build_plain(options: &TransportOptions, max_idle: usize) -> Result<Self, TokenError> {
        // No certificate at all, so that a container without any can ask its neighbour.
        builder(options, max_idle)
            .tls_certs_only([])
            .no_proxy()
            .build()
            .map_err(build_error)
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TokenError> {
        let uri = request.uri().clone();
        let request = request.try_into().map_err(|error: reqwest::Error| {
            TokenError::configuration("the token URL can't be sent: write it as https://host/path")
                .with_source(error.without_url())
        })?;
        let fault = |stage, error: reqwest::Error| {
            request_error(&uri, stage, error.is_timeout(), error.without_url())
        };
        let mut response = self.execute(request).await.map_err(|error| {
            let stage = if error.is_connect() {
                RequestStage::Connecting
            } else {
                RequestStage::Waiting
            };
            fault(stage, error)
        })?;
        let mut body = BodyCollector::new(response.content_length())?;
        while let Some(piece) = response
            .chunk()
            .await
            .map_err(|error| fault(RequestStage::Reading, error))?
        {
            body.push(&piece)?;
        }
        let mut answer = Response::new(body.finish());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }
}

fn builder(options: &TransportOptions, max_idle: usize) -> ClientBuilder {
    Client::builder()
        .tls_backend_rustls()
        // A redirect would carry the client's secret to whoever it names.
        .redirect(Policy::none())
        .referer(false)
        // Another crate may have switched these on for all: a small answer could unpack without bound.
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
        .connect_timeout(options.connect_timeout)
        .pool_max_idle_per_host(max_idle)
        .pool_idle_timeout(Duration::from_secs(30))
        // A connection that died in silence would else take every later request with it.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .http2_keep_alive_timeout(Duration::from_secs(5))
}

pub(super) fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, TokenError> {
    Certificate::from_pem_bundle(pem).map_err(|error| no_root_certificate().with_source(error))
}
