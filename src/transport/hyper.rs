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
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use tower_service::Service;

use super::{
    body::collect,
    client_pool::{HttpClient, Security},
    fault::{BoxError, RequestStage, build_error, request_error},
    options::TransportOptions,
};
use crate::error::TokenError;

pub(super) type HyperClient = Client<ConnectTimeout<HttpsConnector<HttpConnector>>, Full<Bytes>>;

impl HttpClient for HyperClient {
    fn build(
        options: &TransportOptions,
        max_idle: usize,
        security: Security<'_>,
    ) -> Result<Self, TokenError> {
        // The provider is explicit, because rustls panics if a process has no default provider or enables two.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(build_error)?;
        let connector = HttpsConnectorBuilder::new();
        let connector = match security {
            Security::Plain => {
                let config = config
                    .with_root_certificates(RootCertStore::empty())
                    .with_no_client_auth();
                connector.with_tls_config(config).https_or_http()
            }
            Security::Tls(identity) => {
                let roots = options.roots.iter().map(|der| der.to_vec().into());
                let verifier =
                    Verifier::new_with_extra_roots(roots, provider).map_err(build_error)?;
                // rustls calls every verifier dangerous that is not its own. This one is the platform's.
                let config = config
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(verifier));
                let config = match identity {
                    Some(identity) => {
                        let pem = identity.pem.as_bytes();
                        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>();
                        let key = PrivateKeyDer::from_pem_slice(pem).map_err(build_error)?;
                        config
                            .with_client_auth_cert(chain.map_err(build_error)?, key)
                            .map_err(build_error)?
                    }
                    None => config.with_no_client_auth(),
                };
                connector.with_tls_config(config).https_only()
            }
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        Ok(Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(max_idle)
            .pool_idle_timeout(Duration::from_secs(30))
            // Detects a dead connection, which would otherwise fail every later request.
            .http2_keep_alive_interval(Duration::from_secs(10))
            .http2_keep_alive_timeout(Duration::from_secs(5))
            .build(ConnectTimeout {
                connector: connector.enable_all_versions().wrap_connector(tcp),
                limit: options.connect_timeout,
            }))
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TokenError> {
        let uri = request.uri().clone();
        let fault = |stage, error: BoxError| request_error(&uri, stage, false, error);
        let response = self
            .request(request.map(Full::new))
            .await
            .map_err(|error| fault(RequestStage::of_send(error.is_connect()), error.into()))?;
        collect(response, |error| fault(RequestStage::Reading, error.into())).await
    }
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
