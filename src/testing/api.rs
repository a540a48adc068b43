//! The handle of the protected API, and its options.

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

/// A running API that wants a token of an [`AuthorizationServer`], on a port of its own. Clones share it; when the last one
/// drops, its port and its connections close and its tasks end.
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
/// # What it answers
/// - With a valid token, in the only `Authorization` header: 200, and the body of the request with its content type.
/// - Without one: 401, and `WWW-Authenticate: Bearer`, with `error="invalid_token"` if there was any `Authorization` header.
/// - With a valid token that lacks a scope: 403, and `error="insufficient_scope"` with the scopes that the path needs.
/// - With a valid token that was not asked for with the claims it wants: 401, and `error="insufficient_claims"` with those
///   claims. It wants none before [`require_claims`](Self::require_claims).
/// - To a path that begins with `/open`: 200 and the body, token or not.
///
/// It goes on judging tokens when the authorization server is gone.
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
/// // One certificate to trust for both.
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
    /// Starts one over plain HTTP whose every path needs a token, and no scope.
    ///
    /// # Errors
    /// If no port can be had, or outside of a Tokio runtime. The runtime needs its I/O and its time enabled.
    pub async fn start(server: &AuthorizationServer) -> io::Result<Self> {
        Self::builder(server).start().await
    }

    /// Starts one that needs no token: it answers 200 to all, and records who sent a token all the same.
    ///
    /// # Errors
    /// As [`Api::start`].
    pub async fn unprotected(server: &AuthorizationServer) -> io::Result<Self> {
        Self::builder(server).without_protection().start().await
    }

    /// Starts one with other options.
    pub fn builder(server: &AuthorizationServer) -> ApiBuilder {
        ApiBuilder {
            server: server.clone(),
            protection: Protection::default(),
            tls: false,
        }
    }

    /// Its origin, without a trailing slash: `http://127.0.0.1:PORT`, with TLS `https://localhost:PORT`.
    pub fn url(&self) -> String {
        self.running.origin.clone()
    }

    /// The address of a path.
    pub fn url_of(&self, path: &str) -> String {
        let slash = if path.starts_with('/') { "" } else { "/" };
        format!("{}{slash}{path}", self.running.origin)
    }

    /// The certificate of the authority that signed the server's, in PEM; `None` without TLS. It is that of the authorization
    /// server.
    pub fn ca_pem(&self) -> Option<String> {
        self.running
            .authority
            .as_ref()
            .map(CertificateAuthority::ca_pem)
    }

    /// While on, every request is answered with 401, whatever its path and token.
    pub fn always_unauthorized(&self, on: bool) {
        self.service()
            .always_unauthorized
            .store(on, Ordering::Relaxed);
    }

    /// From now on only tokens will do that were asked for with these claims, and perhaps further ones: a JSON object, OpenID's
    /// claims request, in the token request's parameter `claims`. This is what continuous access evaluation does after an event.
    /// `None` ends it. What is no JSON object is wanted of tokens all the same, and no token will do.
    ///
    /// ```
    /// # use tower_bearer::testing::{Api, AuthorizationServer};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let api = Api::start(&AuthorizationServer::start().await?).await?;
    /// // A user was blocked, or changed the password: older tokens are of no use.
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
    /// Requires a scope (or several with blanks between them) of the tokens for this path and everything below it. Of several
    /// prefixes that fit, each counts.
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

    /// Requires nothing: every request is answered with 200.
    pub fn without_protection(mut self) -> Self {
        self.protection.off = true;
        self
    }

    /// Speaks TLS, with a certificate that the authorization server's authority signed.
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts the API.
    ///
    /// # Errors
    /// As [`Api::start`].
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
