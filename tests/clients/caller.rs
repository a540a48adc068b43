//! The HTTP clients, made alike: what a test sends, and what comes of it.

use std::{error::Error as StdError, sync::Arc};

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
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
use tower::{Layer, ServiceExt};
use tower_bearer::{
    AuthLayer, TokenCache, TokenSpec,
    credentials::ClientCredentials,
    layer::{Auth, Error, Recovery},
    testing::{Api, AuthorizationServer},
};

pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// Which client, and over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Reqwest,
    ReqwestTls,
    Http1,
    Http2,
    HyperTls,
}

pub(crate) const KINDS: [Kind; 5] = [
    Kind::Reqwest,
    Kind::ReqwestTls,
    Kind::Http1,
    Kind::Http2,
    Kind::HyperTls,
];

/// A client with its layer, and the servers that it talks to.
pub(crate) struct Caller {
    pub(crate) login: AuthorizationServer,
    pub(crate) api: Api,
    pub(crate) cache: TokenCache,
    pub(crate) spec: TokenSpec,
    client: Wrapped,
}

#[derive(Clone)]
enum Wrapped {
    Reqwest(Auth<reqwest::Client>),
    Hyper {
        whole: Box<Auth<Hyper<Full<Bytes>>>>,
        once: Box<Auth<Hyper<ReadOnce>>>,
    },
}

type Hyper<B> = Client<HttpsConnector<HttpConnector>, B>;
type ReadOnce = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// What the caller of the client sees.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) body: Bytes,
    pub(crate) recovery: Option<Recovery>,
}

impl Answer {
    /// The status, and the recovery's name.
    pub(crate) fn outcome(&self) -> (u16, &'static str) {
        let recovery = self.recovery.as_ref().map_or("none", Recovery::as_str);
        (self.status.as_u16(), recovery)
    }
}

impl Caller {
    pub(crate) async fn new(kind: Kind) -> Self {
        let login = AuthorizationServer::start().await.unwrap();
        let mut api = Api::builder(&login);
        if matches!(kind, Kind::ReqwestTls | Kind::HyperTls) {
            api = api.with_tls();
        }
        let api = api.start().await.unwrap();
        let source = ClientCredentials::new(login.token_url(), "client", "secret");
        let cache = TokenCache::new(source);
        let spec = TokenSpec::scopes(["read"]);
        let layer = AuthLayer::new(cache.clone());
        let layer = layer.route(api.url(), spec.clone()).unwrap();
        let client = Wrapped::new(kind, api.ca_pem().as_deref(), &layer);
        Self {
            login,
            api,
            cache,
            spec,
            client,
        }
    }

    /// Sends a body that is in memory.
    pub(crate) fn post(&self, body: Bytes) -> impl Future<Output = Sent> + Send + 'static {
        let (client, url) = (self.client.clone(), self.api.url_of("/echo"));
        async move {
            match client {
                Wrapped::Reqwest(client) => by_reqwest(client, &url, body.into()).await,
                Wrapped::Hyper { whole, .. } => by_hyper(*whole, &url, Full::new(body)).await,
            }
        }
    }

    /// Sends a body that can be read once.
    pub(crate) async fn post_once(&self, body: Bytes) -> Sent {
        let (client, url) = (self.client.clone(), self.api.url_of("/echo"));
        let body = Full::new(body);
        match client {
            Wrapped::Reqwest(client) => by_reqwest(client, &url, reqwest::Body::wrap(body)).await,
            Wrapped::Hyper { once, .. } => by_hyper(*once, &url, UnsyncBoxBody::new(body)).await,
        }
    }

    /// The bodies that arrived, in their order.
    pub(crate) fn bodies(&self) -> Vec<Bytes> {
        let calls = self.api.requests();
        calls.into_iter().map(|call| call.body).collect()
    }

    /// Token requests, as the server counts them.
    pub(crate) fn fetches(&self) -> u64 {
        self.login.counts().requests
    }
}

pub(crate) type Sent = Result<Answer, Error<BoxError>>;

impl Wrapped {
    fn new(kind: Kind, ca_pem: Option<&str>, layer: &AuthLayer) -> Self {
        if matches!(kind, Kind::Reqwest | Kind::ReqwestTls) {
            let ca = ca_pem.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
            let client = reqwest::Client::builder().tls_certs_only(ca).build();
            return Self::Reqwest(layer.layer(client.unwrap()));
        }
        let connector = connector(ca_pem, true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.http2_only(kind == Kind::Http2);
        Self::Hyper {
            whole: Box::new(layer.layer(builder.build(connector.clone()))),
            once: Box::new(layer.layer(builder.build(connector))),
        }
    }
}

/// Plain or TLS, as the URL says; without `http2`, HTTP/1.1 alone.
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

async fn by_reqwest(client: Auth<reqwest::Client>, url: &str, body: reqwest::Body) -> Sent {
    let mut request = reqwest::Request::new(http::Method::POST, url.parse().unwrap());
    *request.body_mut() = Some(body);
    let response = client.oneshot(request).await.map_err(boxed)?;
    Ok(Answer {
        status: response.status(),
        version: response.version(),
        recovery: response.extensions().get().cloned(),
        body: response
            .bytes()
            .await
            .map_err(|error| Error::Inner(error.into()))?,
    })
}

async fn by_hyper<B>(client: Auth<Hyper<B>>, url: &str, body: B) -> Sent
where
    B: http_body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static,
{
    let request = Request::post(url).body(body).unwrap();
    let response = client.oneshot(request).await.map_err(boxed)?;
    Ok(Answer {
        status: response.status(),
        version: response.version(),
        recovery: response.extensions().get().cloned(),
        body: match response.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Err(Error::Inner(error.into())),
        },
    })
}

fn boxed<E: Into<BoxError>>(error: Error<E>) -> Error<BoxError> {
    match error {
        Error::Token(error) => Error::Token(error),
        Error::Inner(error) => Error::Inner(error.into()),
    }
}
