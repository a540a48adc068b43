//! This module sends token requests over reqwest.

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
        if let Some(identity) = identity {
            let identity = Identity::from_pem(identity.pem.as_bytes()).map_err(build_error)?;
            builder = builder.identity(identity);
        }
        builder.build().map_err(build_error)
    }

    fn build_plain(options: &TransportOptions, max_idle: usize) -> Result<Self, TokenError> {
        // No root certificates, so that it works in a container that has none.
        builder(options, max_idle)
            .tls_certs_only([])
            .no_proxy()
            .build()
            .map_err(build_error)
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TokenError> {
        let uri = request.uri().clone();
        let request = request.try_into().map_err(|error: reqwest::Error| {
            TokenError::configuration("the token URL is not valid: write it as https://host/path")
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
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| fault(RequestStage::Reading, error))?
        {
            body.push(&chunk)?;
        }
        let mut collected = Response::new(body.finish());
        *collected.status_mut() = response.status();
        *collected.headers_mut() = std::mem::take(response.headers_mut());
        Ok(collected)
    }
}

fn builder(options: &TransportOptions, max_idle: usize) -> ClientBuilder {
    Client::builder()
        .tls_backend_rustls()
        // A redirect would send the client secret to another server.
        .redirect(Policy::none())
        .referer(false)
        // Another crate may have enabled these features: a small body could decompress to any size.
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
        .connect_timeout(options.connect_timeout)
        .pool_max_idle_per_host(max_idle)
        .pool_idle_timeout(Duration::from_secs(30))
        // Detects a dead connection, which would otherwise fail every later request.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .http2_keep_alive_timeout(Duration::from_secs(5))
}

pub(super) fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, TokenError> {
    Certificate::from_pem_bundle(pem).map_err(|error| no_root_certificate().with_source(error))
}
