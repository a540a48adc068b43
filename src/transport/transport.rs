//! This module implements [`Transport`]: the choice of the HTTP client, its options, and the checks that apply to every client.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, Uri, uri::Scheme};

use super::custom::{DynTransport, TokenTransport, TransportFn};
#[cfg(feature = "hyper")]
use super::hyper::HyperClient;
use super::length::check_length;
#[cfg(any(feature = "reqwest", feature = "hyper"))]
use super::{client_pool::ClientPool, options::TransportOptions, tls_identity::TlsIdentity};
#[cfg(any(feature = "reqwest", feature = "hyper"))]
use crate::util::pem;
use crate::{
    error::TokenError,
    util::{fingerprint::Fingerprint, loopback::is_loopback},
};

/// Sends requests to token endpoints. Clones share the client and its connections.
///
/// The client is built on the first request, so a `Transport` can be created outside a runtime. It can be used in several
/// runtimes, also one after another. Connections are only kept for reuse in multi-threaded runtimes, because a
/// current-thread runtime drives its connections only while `block_on` runs.
///
/// Plain `http://` is only allowed to loopback (127.0.0.0/8, `[::1]`, `localhost`), and does not use a proxy.
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
    /// Creates a transport that uses reqwest, the platform's root certificates and the proxies of the environment.
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

    /// Creates a transport that uses hyper, rustls and the platform's root certificates, without proxies.
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

    /// Creates a transport that uses a custom client.
    #[must_use]
    pub fn new(transport: impl TokenTransport) -> Self {
        Self(Kind::Custom(Arc::new(transport)))
    }

    /// Creates a transport from an async closure.
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

    /// Sends a request and returns the response with its whole body, whatever its status.
    ///
    /// # Errors
    /// Returns an error if the URL is neither `https://` nor loopback, if the endpoint can't be reached, or if the response body
    /// has more than 1 MiB.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TokenError> {
        require_tls(request.uri())?;
        let response = match &self.0 {
            #[cfg(feature = "reqwest")]
            Kind::Reqwest(clients) => clients.send(request).await?,
            #[cfg(feature = "hyper")]
            Kind::Hyper(clients) => clients.send(request).await?,
            Kind::Custom(custom) => custom.send_boxed(request).await?,
        };
        check_length(response.body().len())?;
        Ok(response)
    }

    /// Returns the fingerprint of the current client certificate and key. Returns `None` without one, and for a custom client.
    pub(crate) fn identity_fingerprint(&self) -> Result<Option<Fingerprint>, TokenError> {
        #[cfg(any(feature = "reqwest", feature = "hyper"))]
        if let Some(options) = self.options() {
            return Ok(options.load_identity()?.map(|pair| pair.fingerprint));
        }
        Ok(None)
    }

    /// Returns `true` if no client certificate is configured. Returns `false` for a custom client, which may have one.
    pub(crate) fn lacks_identity(&self) -> bool {
        #[cfg(any(feature = "reqwest", feature = "hyper"))]
        if let Some(options) = self.options() {
            return options.identity.is_none();
        }
        false
    }
}

#[cfg(any(feature = "reqwest", feature = "hyper"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "reqwest", feature = "hyper"))))]
impl Transport {
    /// Creates a transport that uses reqwest, or hyper if only the feature `hyper` is enabled.
    pub(crate) fn preferred() -> Self {
        #[cfg(feature = "reqwest")]
        let transport = Self::reqwest();
        #[cfg(not(feature = "reqwest"))]
        let transport = Self::hyper();
        transport
    }

    /// Adds root certificates to those of the platform: one or more in PEM.
    ///
    /// # Errors
    /// Returns an error if `pem` contains no certificate, or if the transport uses a custom client.
    ///
    /// ```
    /// use tower_bearer::transport::Transport;
    ///
    /// let error = Transport::reqwest().with_root_certificate_pem(b"junk").unwrap_err();
    /// assert!(error.to_string().contains("PEM"));
    /// ```
    pub fn with_root_certificate_pem(self, pem: &[u8]) -> Result<Self, TokenError> {
        let text = String::from_utf8_lossy(pem);
        let sections = pem::sections(&text).filter(|section| section.label == "CERTIFICATE");
        let roots: Vec<_> = sections
            .map(|section| section.der)
            .collect::<Option<_>>()
            .unwrap_or_default();
        if roots.is_empty() {
            return Err(TokenError::configuration(
                "the root certificates contain no certificate: provide one or more in PEM",
            ));
        }
        self.configure("root certificate", |options| options.roots.extend(roots))
    }

    /// Presents a client certificate to servers that request one (mutual TLS, RFC 8705): the certificate chain and its private key,
    /// in PEM. See [`ClientAuth::mtls`](crate::credentials::ClientAuth::mtls).
    ///
    /// # Errors
    /// Returns an error if the certificate or the key is missing, or if the transport uses a custom client.
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
    pub fn with_client_identity_pem(
        self,
        certificates: &[u8],
        key: &[u8],
    ) -> Result<Self, TokenError> {
        self.with_identity(TlsIdentity::in_memory(certificates, key)?)
    }

    /// Presents a client certificate from files, which are read again for each request. When they have changed, new connections
    /// are opened. The certificate chain and the key may be in one file.
    ///
    /// # Errors
    /// Returns an error if a file can't be read, if the certificate or the key is missing, or if the transport uses a custom
    /// client.
    ///
    /// ```
    /// use tower_bearer::transport::Transport;
    ///
    /// let error = Transport::reqwest().with_client_identity_files("/no/cert.pem", "/no/key.pem").unwrap_err();
    /// assert!(error.to_string().contains("/no/cert.pem"));
    /// ```
    pub fn with_client_identity_files(
        self,
        certificates: impl Into<std::path::PathBuf>,
        key: impl Into<std::path::PathBuf>,
    ) -> Result<Self, TokenError> {
        self.with_identity(TlsIdentity::in_files(certificates.into(), key.into())?)
    }

    /// Limits the time to open a connection, including the TLS handshake. Default: 5 seconds. It has no effect on a custom client.
    #[must_use]
    pub fn with_connect_timeout(self, limit: std::time::Duration) -> Self {
        self.clone()
            .configure("connect timeout", |options| options.connect_timeout = limit)
            .unwrap_or(self)
    }

    fn options(&self) -> Option<&TransportOptions> {
        match &self.0 {
            #[cfg(feature = "reqwest")]
            Kind::Reqwest(clients) => Some(&clients.options),
            #[cfg(feature = "hyper")]
            Kind::Hyper(clients) => Some(&clients.options),
            Kind::Custom(_) => None,
        }
    }

    fn with_identity(self, identity: TlsIdentity) -> Result<Self, TokenError> {
        self.configure("client certificate", |options| {
            options.identity = Some(identity);
        })
    }

    /// Changes the options, which takes a new client. Returns an error for a custom client, which has no options.
    fn configure(
        self,
        setting: &str,
        change: impl FnOnce(&mut TransportOptions),
    ) -> Result<Self, TokenError> {
        match self.0 {
            #[cfg(feature = "reqwest")]
            Kind::Reqwest(clients) => {
                Ok(Self(Kind::Reqwest(Arc::new(clients.with_options(change)))))
            }
            #[cfg(feature = "hyper")]
            Kind::Hyper(clients) => Ok(Self(Kind::Hyper(Arc::new(clients.with_options(change))))),
            Kind::Custom(_) => Err(TokenError::configuration(format!(
                "the transport uses a custom client: configure the {setting} on that client"
            ))),
        }
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

/// Returns an error unless the URL is `https://` or loopback.
///
/// RFC 6749 §3.2: "the authorization server MUST require the use of TLS […] when sending requests to the token
/// endpoint". Loopback traffic does not leave the machine.
pub(crate) fn require_tls(uri: &Uri) -> Result<(), TokenError> {
    let host = uri.host().ok_or_else(|| {
        TokenError::configuration("the token URL has no host: write it as https://host/path")
    })?;
    let is_http = uri.scheme() == Some(&Scheme::HTTP);
    if uri.scheme() == Some(&Scheme::HTTPS) || (is_http && is_loopback(host)) {
        return Ok(());
    }
    Err(TokenError::configuration(format!(
        "the token endpoint at {host} would be called without TLS: use an https:// URL"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(uri: &'static str) -> bool {
        require_tls(&Uri::from_static(uri)).is_ok()
    }

    #[test]
    fn plain_http_is_allowed_to_loopback_only() {
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
