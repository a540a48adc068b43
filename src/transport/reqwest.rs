//! This module sends token requests over reqwest.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use reqwest::{Certificate, Client, Identity, redirect::Policy};

use super::{
    body::collect,
    client_pool::{HttpClient, Security},
    fault::{RequestStage, build_error, request_error},
    options::TransportOptions,
};
use crate::error::TokenError;

impl HttpClient for Client {
    fn build(
        options: &TransportOptions,
        max_idle: usize,
        security: Security<'_>,
    ) -> Result<Self, TokenError> {
        let builder = Self::builder()
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
            .http2_keep_alive_timeout(Duration::from_secs(5));
        let builder = match security {
            // No root certificates, so that it works in a container that has none.
            Security::Plain => builder.tls_certs_only([]).no_proxy(),
            Security::Tls(identity) => {
                let roots = options.roots.iter().map(|der| Certificate::from_der(der));
                let roots = roots.collect::<Result<Vec<_>, _>>().map_err(build_error)?;
                let builder = builder.tls_certs_merge(roots).https_only(true);
                match identity {
                    Some(identity) => builder.identity(
                        Identity::from_pem(identity.pem.as_bytes()).map_err(build_error)?,
                    ),
                    None => builder,
                }
            }
        };
        builder.build().map_err(build_error)
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
        let response = self
            .execute(request)
            .await
            .map_err(|error| fault(RequestStage::of_send(error.is_connect()), error))?;
        collect(response.into(), |error| fault(RequestStage::Reading, error)).await
    }
}
