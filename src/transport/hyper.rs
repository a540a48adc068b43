//! This module sends token requests over hyper and rustls.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, builderstates::WantsProtocols1};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use tower_service::Service;

use super::{
    body::BodyCollector,
    client_pool::HttpClient,
    fault::{BoxError, RequestStage, build_error, request_error},
    options::{TransportOptions, no_root_certificate},
    tls_identity::IdentityPem,
};
use crate::error::TokenError;

pub(super) type HyperClient = Client<ConnectTimeout<HttpsConnector<HttpConnector>>, Full<Bytes>>;

impl HttpClient for HyperClient {
    fn build_secure(
        options: &TransportOptions,
        max_idle: usize,
        identity: Option<&IdentityPem>,
    ) -> Result<Self, TokenError> {
        let mut roots = Vec::new();
        for pem in &options.roots {
            roots.extend(certificates(pem)?);
        }
        let provider = provider();
        let verifier =
            Verifier::new_with_extra_roots(roots, provider.clone()).map_err(build_error)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(build_error)?
            .dangerous()
            // rustls calls every verifier dangerous that is not its own. This one is the platform's.
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match identity {
            Some(identity) => {
                let key =
                    PrivateKeyDer::from_pem_slice(identity.pem.as_bytes()).map_err(build_error)?;
                config
                    .with_client_auth_cert(certificates(identity.pem.as_bytes())?, key)
                    .map_err(build_error)?
            }
            None => config.with_no_client_auth(),
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only();
        Ok(build(options, max_idle, connector))
    }

    fn build_plain(options: &TransportOptions, max_idle: usize) -> Result<Self, TokenError> {
        let provider = provider();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(build_error)?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http();
        Ok(build(options, max_idle, connector))
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TokenError> {
        let uri = request.uri().clone();
        let response = self
            .request(request.map(Full::new))
            .await
            .map_err(|error| {
                let stage = if error.is_connect() {
                    RequestStage::Connecting
                } else {
                    RequestStage::Waiting
                };
                request_error(&uri, stage, false, error)
            })?;
        let (parts, mut incoming) = response.into_parts();
        let mut body = BodyCollector::new(incoming.size_hint().exact())?;
        while let Some(frame) = incoming.frame().await {
            let frame =
                frame.map_err(|error| request_error(&uri, RequestStage::Reading, false, error))?;
            if let Some(chunk) = frame.data_ref() {
                body.push(chunk)?;
            }
        }
        Ok(Response::from_parts(parts, body.finish()))
    }
}

/// The provider is explicit, because rustls panics if a process has no default provider or enables two.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn build(
    options: &TransportOptions,
    max_idle: usize,
    connector: HttpsConnectorBuilder<WantsProtocols1>,
) -> HyperClient {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let connector = connector.enable_all_versions().wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(max_idle)
        .pool_idle_timeout(Duration::from_secs(30))
        // Detects a dead connection, which would otherwise fail every later request.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .http2_keep_alive_timeout(Duration::from_secs(5))
        .build(ConnectTimeout {
            connector,
            limit: options.connect_timeout,
        })
}

pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TokenError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| no_root_certificate().with_source(io::Error::other(error.to_string())))
}

/// Limits the time to connect, including TLS. The timeout of hyper's connector only covers TCP.
#[derive(Clone)]
pub(super) struct ConnectTimeout<C> {
    connector: C,
    limit: Duration,
}

impl<C> Service<Uri> for ConnectTimeout<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.limit, self.connector.call(uri));
        Box::pin(async move {
            match connecting.await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}
