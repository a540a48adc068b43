//! Implements the handle of the protected API and its builder.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::api_call::{ApiCall, ApiCounts};
use super::api_service::ApiService;
use super::authorization_server::AuthorizationServer;
use super::claims::RequiredClaims;
use super::controls::impl_controls;
use super::protection::Protection;
use super::server::{Server, Socket};
use super::tls::CertificateAuthority;

/// A running API that requires a token of an [`AuthorizationServer`], on a free loopback port. Clones share the API. When the last
/// clone is dropped, its port and connections close and its tasks end.
///
/// ```
/// use tower_bearer::testing::{Api, AuthorizationServer};
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> std::io::Result<()> {
///     let server = AuthorizationServer::start().await?;
///     let api = Api::builder(&server).with_required_scope("/admin", "write").start().await?;
///     assert_eq!(api.url_of("/admin"), format!("{}/admin", api.url()));
///     assert_eq!(api.counts().requests, 0);
///     Ok(())
/// }
/// ```
///
/// # Responses
/// - With a valid token in the only `Authorization` header: 200, with the request's body and content type.
/// - Without a valid token: 401 and `WWW-Authenticate: Bearer`, with `error="invalid_token"` if there is any `Authorization` header.
/// - With a valid token that lacks a scope: 403 and `error="insufficient_scope"`, with the scopes that the path requires.
/// - With a valid token that was requested without the claims set by [`require_claims`](Self::require_claims): 401 and
///   `error="insufficient_claims"`, with those claims.
/// - For a path that begins with `/open`: 200 and the body, with or without a token.
///
/// A request counts as arrived once its headers have been read. Tokens are validated when the response is sent, even after the
/// authorization server has stopped.
#[derive(Clone)]
pub struct Api {
    running: Arc<Running>,
}

/// The options of an [`Api`].
///
/// ```
/// use tower_bearer::testing::{Api, AuthorizationServer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = AuthorizationServer::builder().with_tls().start().await?;
/// let stranger = Api::builder(&server).with_tls().without_protection().start().await?;
/// // Both have the same certificate authority.
/// assert_eq!(stranger.ca_pem(), server.ca_pem());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ApiBuilder {
    server: AuthorizationServer,
    protection: Protection,
    tls: bool,
}

struct Running {
    service: Arc<ApiService>,
    origin: String,
    authority: Option<CertificateAuthority>,
    _server: Server,
}

impl Api {
    /// Starts an API over plain HTTP that requires a token, but no scope, for every path.
    ///
    /// # Errors
    /// Returns an error if no port is available, or if it is called outside of a Tokio runtime. The runtime needs I/O and time
    /// enabled.
    pub async fn start(server: &AuthorizationServer) -> io::Result<Self> {
        Self::builder(server).start().await
    }

    /// Starts an API that requires no token. It returns 200 for every request, and records the tokens it receives.
    ///
    /// # Errors
    /// Returns an error if [`Api::start`] would.
    pub async fn unprotected(server: &AuthorizationServer) -> io::Result<Self> {
        Self::builder(server).without_protection().start().await
    }

    /// Returns a builder for an API with other options.
    pub fn builder(server: &AuthorizationServer) -> ApiBuilder {
        ApiBuilder {
            server: server.clone(),
            protection: Protection::default(),
            tls: false,
        }
    }

    /// Returns the API's origin without a trailing slash: `http://127.0.0.1:PORT`, or `https://localhost:PORT` with TLS.
    pub fn url(&self) -> String {
        self.running.origin.clone()
    }

    /// Returns the URL of a path.
    pub fn url_of(&self, path: &str) -> String {
        let slash = if path.starts_with('/') { "" } else { "/" };
        format!("{}{slash}{path}", self.running.origin)
    }

    /// Returns the certificate of the authority that signed the API's certificate, as PEM, or `None` without TLS. The authorization
    /// server has the same authority.
    pub fn ca_pem(&self) -> Option<String> {
        self.running
            .authority
            .as_ref()
            .map(CertificateAuthority::ca_pem)
    }

    /// While this is on, every request gets a 401, regardless of its path and token.
    pub fn always_unauthorized(&self, on: bool) {
        self.service()
            .always_unauthorized
            .store(on, Ordering::Relaxed);
    }

    /// Accepts only tokens whose token request had these claims, and possibly others, in its `claims` parameter. `claims` is a JSON
    /// object, OpenID Connect's claims request. Resource servers with continuous access evaluation require claims after an event.
    /// `None` accepts all valid tokens again. If `claims` is not a JSON object, no token is accepted.
    ///
    /// ```
    /// # use tower_bearer::testing::{Api, AuthorizationServer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let api = Api::start(&AuthorizationServer::start().await?).await?;
    /// // The user changed the password, so older tokens are rejected.
    /// api.require_claims(Some(r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#));
    /// # Ok(())
    /// # }
    /// ```
    pub fn require_claims(&self, claims: Option<&str>) {
        self.service()
            .require_claims(claims.map(RequiredClaims::new));
    }

    fn service(&self) -> &ApiService {
        &self.running.service
    }
}

impl_controls!(Api, "request", ApiCall, ApiCounts);

impl ApiBuilder {
    /// Requires a scope (or several separated by spaces) for this path and all paths below it. If several prefixes match a path, the
    /// scopes of each are required.
    pub fn with_required_scope(
        mut self,
        path_prefix: impl Into<String>,
        scope: impl Into<String>,
    ) -> Self {
        self.protection
            .scopes
            .push((path_prefix.into(), scope.into()));
        self
    }

    /// Requires no token: every request gets a 200.
    pub fn without_protection(mut self) -> Self {
        self.protection.off = true;
        self
    }

    /// Uses TLS with a certificate signed by the authority of the authorization server.
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts the API.
    ///
    /// # Errors
    /// Returns an error if [`Api::start`] would.
    pub async fn start(self) -> io::Result<Api> {
        let authority = if self.tls {
            Some(self.server.authority()?)
        } else {
            None
        };
        let socket = Socket::bind(
            authority
                .as_ref()
                .map(CertificateAuthority::acceptor)
                .transpose()?,
        )
        .await?;
        let origin = socket.origin();
        let service = Arc::new(ApiService::new(
            self.server.shared_issuer().clone(),
            self.protection,
        ));
        let server = socket.serve(service.clone());
        Ok(Api {
            running: Arc::new(Running {
                service,
                origin,
                authority,
                _server: server,
            }),
        })
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("url", &self.running.origin)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
