//! Token endpoints over reqwest.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, uri::Scheme};
use reqwest::{Certificate, Client, ClientBuilder, Identity, redirect::Policy};

use super::{
    body::Collector,
    fault::{Stage, no_answer, no_client},
    identity::Pair,
    options::{Options, no_certificate},
    per_flavor::PerFlavor,
    rotating::Rotating,
};
use crate::error::TokenError;

/// Two clients, each built when it is needed first.
pub(super) struct Reqwest {
    options: Options,
    secure: Rotating<Client>,
    /// For this machine: it needs no trust, and must not take plain secrets to a proxy.
    plain: PerFlavor<Result<Client, TokenError>>,
}

impl Reqwest {
    pub(super) const fn new(options: Options) -> Self {
        Self {
            options,
            secure: Rotating::new(),
            plain: PerFlavor::new(),
        }
    }

    pub(super) const fn options(&self) -> &Options {
        &self.options
    }

    pub(super) async fn send(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, TokenError> {
        let uri = request.uri().clone();
        let client = if uri.scheme() == Some(&Scheme::HTTP) {
            let client = self.plain.get_or_build(|idle| self.build_plain(idle));
            client.clone()?
        } else {
            let identity = self.options.load_identity()?;
            let mark = identity.as_ref().map(|pair| pair.mark);
            self.secure
                .get_or_build(mark, |idle| self.build_secure(idle, identity.as_deref()))?
        };
        let request = request.try_into().map_err(|error: reqwest::Error| {
            TokenError::configuration("the token URL can't be sent: write it as https://host/path")
                .with_source(error.without_url())
        })?;
        let fault = |stage, error: reqwest::Error| {
            no_answer(&uri, stage, error.is_timeout(), error.without_url())
        };
        let mut response = client.execute(request).await.map_err(|error| {
            let stage = if error.is_connect() {
                Stage::Connecting
            } else {
                Stage::Waiting
            };
            fault(stage, error)
        })?;
        let mut body = Collector::new(response.content_length())?;
        while let Some(piece) = response
            .chunk()
            .await
            .map_err(|error| fault(Stage::Reading, error))?
        {
            body.push(&piece)?;
        }
        let mut answer = Response::new(body.finish());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }

    fn build_secure(&self, idle: usize, identity: Option<&Pair>) -> Result<Client, TokenError> {
        let mut roots = Vec::new();
        for pem in &self.options.roots {
            roots.extend(certificates(pem)?);
        }
        let mut builder = self.builder(idle).tls_certs_merge(roots).https_only(true);
        if let Some(pair) = identity {
            let identity = Identity::from_pem(pair.pem.as_bytes()).map_err(no_client)?;
            builder = builder.identity(identity);
        }
        builder.build().map_err(no_client)
    }

    fn build_plain(&self, idle: usize) -> Result<Client, TokenError> {
        // No certificate at all, so that a container without any can ask its neighbour.
        self.builder(idle)
            .tls_certs_only([])
            .no_proxy()
            .build()
            .map_err(no_client)
    }

    fn builder(&self, idle: usize) -> ClientBuilder {
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
            .connect_timeout(self.options.connect_timeout)
            .pool_max_idle_per_host(idle)
            .pool_idle_timeout(Duration::from_secs(30))
            // A connection that died in silence would else take every later request with it.
            .http2_keep_alive_interval(Duration::from_secs(10))
            .http2_keep_alive_timeout(Duration::from_secs(5))
    }
}

pub(super) fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, TokenError> {
    Certificate::from_pem_bundle(pem).map_err(|error| no_certificate().with_source(error))
}
