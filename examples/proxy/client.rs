//! Builds the client for upstreams: HTTP/1.1, or HTTP/2 if TLS negotiates it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_platform_verifier::Verifier;
use tower::{BoxError, Service};

use crate::body::Payload;

pub(crate) type Client = legacy::Client<ConnectTimeout<HttpsConnector<HttpConnector>>, Payload>;

/// The time limit for connecting, including TLS.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Builds a client with a connection pool. The platform's certificates are loaded only with `tls`.
pub(crate) fn client(tls: bool) -> Result<Client, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let config = if tls {
        let verifier = Verifier::new_with_extra_roots([], provider)?;
        // rustls calls every verifier except its own dangerous.
        config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
    } else {
        config.with_root_certificates(RootCertStore::empty())
    };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config.with_no_client_auth())
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp);
    Ok(legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        // Without this, a dead connection would fail all later requests.
        .http2_keep_alive_interval(Duration::from_secs(20))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .http2_adaptive_window(true)
        .build(ConnectTimeout(connector)))
}

/// Limits the time for connecting.
#[derive(Clone)]
pub(crate) struct ConnectTimeout<C>(C);

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

impl<C> Service<Uri> for ConnectTimeout<C>
where
    C: Service<Uri>,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Connecting<C::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(TIMEOUT, self.0.call(uri));
        Box::pin(async move {
            match connecting.await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    }
}
