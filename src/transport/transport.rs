//! [`Transport`]: which client asks, its options, and what holds for every client.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, Uri, uri::Scheme};

#[cfg(feature = "hyper")]
use super::hyper::HyperClient;
use super::{
    body,
    custom::{DynTransport, TokenTransport, TransportFn},
};
#[cfg(any(feature = "reqwest", feature = "hyper"))]
use super::{
    client_pool::ClientPool,
    options::{TransportOptions, no_root_certificate},
    tls_identity::TlsIdentity,
};
use crate::{error::TokenError, util::fingerprint::Fingerprint, util::loopback::is_loopback};

/// How token endpoints are asked. A clone shares the client and its connections.
///
/// Nothing is built before the first request, so it can be made anywhere, outside a runtime too. A client outlives the
/// runtime of its first request: in the next one, it connects anew. Connections are kept for later requests in
/// runtimes of many threads only: a runtime of one thread may stand still while its connection is needed in another.
///
/// Plain `http://` is for this machine only (127.0.0.0/8, `[::1]`, `localhost`), and goes there without a proxy.
#[derive(Clone)]
pub struct Transport(Kind);

#[derive(Clone)]
enum Kind {
    #[cfg(feature = "reqwest")]
    Reqwest(Arc<ClientPool<reqwest::Client>>),
    #[cfg(feature = "hyper")]
    Hyper(Arc<ClientPool<HyperClient>>),
    Custom(Arc<dyn DynTransport>),
}

impl Transport {
    /// Over reqwest, with the platform's trust and the environment's proxies.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::transport::Transport;
    ///
    /// let transport = Transport::reqwest().with_connect_timeout(Duration::from_secs(2));
    /// # let _ = transport;
    /// ```
    #[cfg(feature = "reqwest")]
    #[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
    #[must_use]
    pub fn reqwest() -> Self {
        Self(Kind::Reqwest(Arc::new(ClientPool::new(
            TransportOptions::default(),
        ))))
    }

    /// Over hyper and rustls, with the platform's trust and without proxies.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_bearer::transport::Transport;
    ///
    /// let transport = Transport::hyper().with_connect_timeout(Duration::from_secs(2));
    /// # let _ = transport;
    /// ```
    #[cfg(feature = "hyper")]
    #[cfg_attr(docsrs, doc(cfg(feature = "hyper")))]
    #[must_use]
    pub fn hyper() -> Self {
        Self(Kind::Hyper(Arc::new(ClientPool::new(
            TransportOptions::default(),
        ))))
    }

    /// Over a client of your own.
    #[must_use]
    pub fn new(transport: impl TokenTransport) -> Self {
        Self(Kind::Custom(Arc::new(transport)))
    }

    /// Over an async closure.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use tower_bearer::transport::Transport;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let transport = Transport::from_fn(async |request| {
    ///     assert_eq!(request.uri().path(), "/token");
    ///     Ok(http::Response::new(Bytes::from(r#"{"access_token":"abc"}"#)))
    /// });
    /// let request = http::Request::post("https://login.example/token").body(Bytes::new())?;
    /// assert_eq!(transport.send(request).await?.body().len(), 22);
    /// # Ok(()) }
    /// ```
    pub fn from_fn<F, Fut>(send: F) -> Self
    where
        F: Fn(Request<Bytes>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Response<Bytes>, TokenError>> + Send,
    {
        Self::new(TransportFn(send))
    }

    /// The client that the features chose: reqwest, else hyper.
    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    pub(crate) fn preferred() -> Self {
        #[cfg(feature = "reqwest")]
        let transport = Self::reqwest();
        #[cfg(not(feature = "reqwest"))]
        let transport = Self::hyper();
        transport
    }

    /// Trusts these authorities too, beside the platform's: one or more certificates in PEM.
    ///
    /// # Errors
    /// There is no certificate in it, or the client is your own.
    ///
    /// ```
    /// use tower_bearer::transport::Transport;
    ///
    /// let error = Transport::reqwest().with_root_certificate_pem(b"junk").unwrap_err();
    /// assert!(error.to_string().contains("PEM"));
    /// ```
    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "reqwest", feature = "hyper"))))]
    pub fn with_root_certificate_pem(self, pem: &[u8]) -> Result<Self, TokenError> {
        let count = match &self.0 {
            #[cfg(feature = "reqwest")]
            Kind::Reqwest(_) => super::reqwest::certificates(pem)?.len(),
            #[cfg(feature = "hyper")]
            Kind::Hyper(_) => super::hyper::certificates(pem)?.len(),
            Kind::Custom(_) => {
                return Err(TokenError::configuration(
                    "the transport is a client of your own: give the root certificate to that client",
                ));
            }
        };
        if count == 0 {
            return Err(no_root_certificate());
        }
        Ok(self.with_options(|options| options.roots.push(pem.into())))
    }

    /// Shows this certificate to servers that ask for one (mutual TLS, RFC 8705): its own and those up to the authority, and its
    /// private key, in PEM. See [`ClientAuth::mtls`](crate::credentials::ClientAuth::mtls).
    ///
    /// # Errors
    /// There is no certificate or no key in it, or the client is your own.
    ///
    /// ```
    /// use tower_bearer::transport::Transport;
    ///
    /// # let certificate = include_bytes!("../../tests/vectors/keys/p256.certificate.pem");
    /// # let key = include_bytes!("../../tests/vectors/keys/p256.pkcs8.pem");
    /// let transport = Transport::reqwest().with_client_identity_pem(certificate, key)?;
    /// # let _ = transport;
    /// # Ok::<_, tower_bearer::TokenError>(())
    /// ```
    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "reqwest", feature = "hyper"))))]
    pub fn with_client_identity_pem(
        self,
        certificates: &[u8],
        key: &[u8],
    ) -> Result<Self, TokenError> {
        self.with_identity(TlsIdentity::in_memory(certificates, key)?)
    }

    /// The same from files, read anew for each request: when they have been replaced, connections are made anew. Both may be one
    /// file.
    ///
    /// # Errors
    /// The files can't be read now, there is no certificate or no key in them, or the client is your own.
    ///
    /// ```
    /// use tower_bearer::transport::Transport;
    ///
    /// let error = Transport::reqwest().with_client_identity_files("/no/cert.pem", "/no/key.pem").unwrap_err();
    /// assert!(error.to_string().contains("/no/cert.pem"));
    /// ```
    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "reqwest", feature = "hyper"))))]
    pub fn with_client_identity_files(
        self,
        certificates: impl Into<std::path::PathBuf>,
        key: impl Into<std::path::PathBuf>,
    ) -> Result<Self, TokenError> {
        self.with_identity(TlsIdentity::in_files(certificates.into(), key.into())?)
    }

    /// How long connecting may take, TLS and all: 5 seconds unless set. It means nothing to a client of your own.
    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "reqwest", feature = "hyper"))))]
    #[must_use]
    pub fn with_connect_timeout(self, limit: std::time::Duration) -> Self {
        self.with_options(|options| options.connect_timeout = limit)
    }

    /// Sends a request and collects the answer, whatever its status.
    ///
    /// # Errors
    /// The address is neither `https://` nor this machine's, the endpoint can't be reached, or its answer is beyond
    /// 1 MiB.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TokenError> {
        require_tls(request.uri())?;
        match &self.0 {
            #[cfg(feature = "reqwest")]
            Kind::Reqwest(clients) => clients.send(request).await,
            #[cfg(feature = "hyper")]
            Kind::Hyper(clients) => clients.send(request).await,
            Kind::Custom(custom) => {
                let response = custom.send_boxed(request).await?;
                body::check_length(response.body().len() as u64)?;
                Ok(response)
            }
        }
    }

    /// The mark of the client's certificate and key as they are now. That of a client of your own is not known.
    pub(crate) fn identity_fingerprint(&self) -> Result<Option<Fingerprint>, TokenError> {
        #[cfg(any(feature = "reqwest", feature = "hyper"))]
        if let Some(options) = self.options() {
            return Ok(options.load_identity()?.map(|pair| pair.fingerprint));
        }
        Ok(None)
    }

    /// Whether it is known to have no certificate to show.
    pub(crate) fn lacks_identity(&self) -> bool {
        #[cfg(any(feature = "reqwest", feature = "hyper"))]
        if let Some(options) = self.options() {
            return options.identity.is_none();
        }
        false
    }

    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    fn options(&self) -> Option<&TransportOptions> {
        match &self.0 {
            #[cfg(feature = "reqwest")]
            Kind::Reqwest(clients) => Some(clients.options()),
            #[cfg(feature = "hyper")]
            Kind::Hyper(clients) => Some(clients.options()),
            Kind::Custom(_) => None,
        }
    }

    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    fn with_identity(self, identity: TlsIdentity) -> Result<Self, TokenError> {
        if matches!(self.0, Kind::Custom(_)) {
            return Err(TokenError::configuration(
                "the transport is a client of your own: give the client's certificate to that client",
            ));
        }
        Ok(self.with_options(|options| options.identity = Some(identity)))
    }

    /// The same with other options, and so with a client of its own.
    #[cfg(any(feature = "reqwest", feature = "hyper"))]
    fn with_options(self, change: impl FnOnce(&mut TransportOptions)) -> Self {
        Self(match self.0 {
            #[cfg(feature = "reqwest")]
            Kind::Reqwest(clients) => Kind::Reqwest(Arc::new(clients.with_options(change))),
            #[cfg(feature = "hyper")]
            Kind::Hyper(clients) => Kind::Hyper(Arc::new(clients.with_options(change))),
            custom @ Kind::Custom(_) => custom,
        })
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            #[cfg(feature = "reqwest")]
            Kind::Reqwest(_) => "Transport::reqwest()",
            #[cfg(feature = "hyper")]
            Kind::Hyper(_) => "Transport::hyper()",
            Kind::Custom(_) => "Transport::new(_)",
        })
    }
}

/// RFC 6749 §3.2: "the authorization server MUST require the use of TLS […] when sending requests to the token
/// endpoint". What stays on this machine nobody on the way can read.
pub(crate) fn require_tls(uri: &Uri) -> Result<(), TokenError> {
    let Some(host) = uri.host() else {
        return Err(TokenError::configuration(
            "the token URL has no host: write it as https://host/path",
        ));
    };
    if uri.scheme() == Some(&Scheme::HTTPS) {
        return Ok(());
    }
    if uri.scheme() == Some(&Scheme::HTTP) && is_loopback(host) {
        return Ok(());
    }
    Err(TokenError::configuration(format!(
        "the token endpoint at {host} is asked without TLS: write its address with https://"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(uri: &'static str) -> bool {
        require_tls(&Uri::from_static(uri)).is_ok()
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for uri in [
            "https://login.example/",
            "http://127.0.0.1/",
            "http://127.9.9.9:8080/",
            "http://[::1]:8080/",
            "http://localhost/",
            "http://LOCALHOST:1/",
        ] {
            assert!(allowed(uri), "{uri}");
        }
        for uri in [
            "http://login.example/",
            "http://localhost.example/",
            "http://127.0.0.1.example/",
            "http://128.0.0.1/",
            "http://0.0.0.0/",
            "http://[::2]/",
            "http://localhost@login.example/",
            "ftp://localhost/",
            "/token",
            "localhost:80",
        ] {
            assert!(!allowed(uri), "{uri}");
        }
    }
}
