//! Implements the handle of the authorization server.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::client_certificate::ClientCertificate;
use super::controls::impl_controls;
use super::fault::Fault;
use super::hold::Hold;
use super::issued_tokens::Authorization;
use super::issuer::Issuer;
use super::public_key::PublicKey;
use super::server::Server;
use super::tls::CertificateAuthority;
use super::token_call::{TokenCall, TokenCounts};
use super::token_service::{TOKEN, TokenService};

/// A running OAuth 2.0 authorization server on a free loopback port. Clones share the server. When the last clone is dropped, its
/// port and connections close and its tasks end.
///
/// ```
/// use tower_bearer::testing::{AuthorizationServer, Fault};
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> std::io::Result<()> {
///     let server = AuthorizationServer::start().await?;
///     assert!(server.token_url().ends_with("/token"));
///
///     // The next two token requests get a 503, the third one a token.
///     server.fault_times(2, Fault::status(503));
///     assert_eq!(server.counts().requests, 0);
///     Ok(())
/// }
/// ```
///
/// # Endpoints
/// - `POST /token` requires client authentication by `client_secret_basic`, `client_secret_post`, `client_secret_jwt`,
///   `private_key_jwt` or a certificate. It accepts `scope`, `resource`, `audience` and `claims`, and returns the errors of
///   RFC 6749, section 5.2. A request counts as arrived once its form has been read.
/// - `POST /introspect` (RFC 7662) and `POST /revoke` (RFC 7009) require client authentication too.
/// - `GET /.well-known/openid-configuration` and `/.well-known/oauth-authorization-server` return the metadata. Issuers with a path
///   have metadata too, at the locations that the two standards define, and a `/token` below their path.
///
/// # Grants
/// - `client_credentials`
/// - `refresh_token` of a [user who signed in](Self::sign_in); the refresh token is replaced on each use
/// - `jwt-bearer` and `saml2-bearer` with [trusted assertions](Self::trust_assertion), and `jwt-bearer` on behalf of a user
/// - `token-exchange` of tokens issued by this server and of trusted assertions
/// - `password` of [users](crate::testing::AuthorizationServerBuilder::with_user)
///
/// A token expires after exactly its lifetime by Tokio's clock, while `expires_in` is rounded down to whole seconds.
#[derive(Clone)]
pub struct AuthorizationServer {
    pub(super) running: Arc<Running>,
}

pub(super) struct Running {
    pub(super) service: Arc<TokenService>,
    /// Generated when a server first needs it for TLS.
    pub(super) authority: Mutex<Option<CertificateAuthority>>,
    pub(super) _server: Server,
}

impl AuthorizationServer {
    /// Returns the URL of the token endpoint: `http://127.0.0.1:PORT/token`, or `https://localhost:PORT/token` with TLS.
    pub fn token_url(&self) -> String {
        format!("{}{TOKEN}", self.service().origin)
    }

    /// Returns the issuer named in the metadata: the origin of [`token_url`](Self::token_url), without a trailing slash.
    pub fn issuer(&self) -> String {
        self.service().origin.clone()
    }

    /// Returns the certificate of the authority that signed the server's certificate, as PEM. Returns `None` until this server or
    /// an [`Api`](super::Api) of it uses TLS.
    pub fn ca_pem(&self) -> Option<String> {
        self.running
            .authority
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(CertificateAuthority::ca_pem)
    }

    /// Sets the lifetime of tokens issued from now on. With `None` they don't expire, and responses have no `expires_in`.
    pub fn set_lifetime(&self, lifetime: Option<Duration>) {
        self.shared_issuer().settings_mut().lifetime = lifetime;
    }

    /// Sets the `refresh_in` of token responses. `None`, the default, omits it.
    pub fn set_refresh_in(&self, refresh_in: Option<Duration>) {
        self.shared_issuer().settings_mut().refresh_in = refresh_in;
    }

    /// Replaces the secret of a client. Adds the client if it is new.
    pub fn set_client_secret(&self, id: impl Into<String>, secret: impl Into<String>) {
        let mut settings = self.shared_issuer().settings_mut();
        settings.client(id).secret = Some(secret.into());
    }

    /// Replaces the public key of a client that signs its assertions (see
    /// [`with_client_key`](crate::testing::AuthorizationServerBuilder::with_client_key)). Adds the client if it is new.
    ///
    /// # Errors
    /// Returns an error if `public_key` is neither a PEM public key nor a JWK.
    pub fn set_client_key(&self, id: impl Into<String>, public_key: &str) -> io::Result<()> {
        let key = PublicKey::parse(public_key)?;
        let mut settings = self.shared_issuer().settings_mut();
        settings.client(id).keys = vec![key];
        Ok(())
    }

    /// Replaces the assertion that a client authenticates with (see
    /// [`with_client_assertion`](crate::testing::AuthorizationServerBuilder::with_client_assertion)). Adds the client if it is new.
    pub fn set_client_assertion(&self, id: impl Into<String>, assertion: impl Into<String>) {
        let mut settings = self.shared_issuer().settings_mut();
        settings.client(id).assertion = Some(assertion.into());
    }

    /// Creates a certificate for a client and replaces an earlier one. Adds the client if it is new. The server requests client
    /// certificates if it was started [`with_mutual_tls`](crate::testing::AuthorizationServerBuilder::with_mutual_tls).
    ///
    /// # Errors
    /// Returns an error if the key or the certificate can't be generated.
    pub fn client_certificate(&self, id: impl Into<String>) -> io::Result<ClientCertificate> {
        let id = id.into();
        let certificate = self.authority()?.client(&id)?;
        let mut settings = self.shared_issuer().settings_mut();
        settings.client(id).certificate = Some(certificate.der.clone());
        Ok(certificate)
    }

    /// Sets the scopes that clients may request from now on. Requests for others fail with `invalid_scope`. `None`, the default,
    /// allows all scopes.
    pub fn allow_scopes(&self, scopes: Option<Vec<String>>) {
        self.shared_issuer().settings_mut().allowed_scopes = scopes;
    }

    /// While this is on, a client that requests the same scopes, resources and audiences again gets its last token again until that
    /// token expires, even if it was revoked.
    pub fn repeat_token(&self, on: bool) {
        self.shared_issuer().settings_mut().repeat_token = on;
    }

    /// Sets the length of tokens issued from now on. They have at least 43 characters, which is the default.
    pub fn token_length(&self, characters: usize) {
        self.shared_issuer().settings_mut().token_length = characters;
    }

    /// Signs in a user who consents to these scopes. Returns an access token and a refresh token for the client.
    ///
    /// ```
    /// use tower_bearer::testing::AuthorizationServer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let server = AuthorizationServer::start().await?;
    /// let (access, refresh) = server.sign_in("alice", "client", ["read"]);
    /// assert!(server.is_valid(&access, Some("read")));
    /// assert_eq!(server.subject_of(&access).as_deref(), Some("alice"));
    /// # let _ = refresh;
    /// # Ok(())
    /// # }
    /// ```
    pub fn sign_in<'a>(
        &self,
        user: &str,
        client: &str,
        scopes: impl IntoIterator<Item = &'a str>,
    ) -> (String, String) {
        self.shared_issuer().sign_in(Authorization {
            client: client.to_owned(),
            scopes: scopes.into_iter().map(str::to_owned).collect(),
            subject: Some(user.to_owned()),
            ..Authorization::default()
        })
    }

    /// Accepts this assertion from now on and issues tokens for `subject` in exchange for it.
    pub fn trust_assertion(&self, assertion: impl Into<String>, subject: impl Into<String>) {
        self.shared_issuer()
            .settings_mut()
            .trusted_assertions
            .insert(assertion.into(), subject.into());
    }

    /// Sets whether responses to grants for a user (on behalf of a user, and by password) contain a refresh token. Off by default.
    pub fn issue_refresh_tokens(&self, on: bool) {
        self.shared_issuer().settings_mut().issue_refresh_tokens = on;
    }

    /// Sets whether a refresh token is replaced when it is used. A second use of it then revokes its successors. On by default.
    pub fn rotate_refresh_tokens(&self, on: bool) {
        self.shared_issuer().settings_mut().rotate_refresh_tokens = on;
    }

    /// Returns how many times refresh tokens were used so far, including rejected uses.
    pub fn refresh_token_uses(&self) -> u64 {
        self.shared_issuer().refresh_tokens().uses()
    }

    /// Revokes all refresh tokens issued so far.
    pub fn revoke_refresh_tokens(&self) {
        self.shared_issuer().refresh_tokens().revoke_all();
    }

    /// Returns the subject of a token of this server, or `None` if the token was issued to the client itself.
    pub fn subject_of(&self, token: &str) -> Option<String> {
        self.shared_issuer()
            .tokens()
            .find(token)?
            .authorization
            .subject
            .clone()
    }

    /// Returns the actor of a token of this server, which acts on behalf of the token's subject.
    pub fn actor_of(&self, token: &str) -> Option<String> {
        self.shared_issuer()
            .tokens()
            .find(token)?
            .authorization
            .actor
            .clone()
    }

    /// Sets which metadata documents the server has: that of RFC 8414, and that of OpenID Connect. Both are on by default.
    pub fn serve_metadata(&self, oauth: bool, openid: bool) {
        self.shared_issuer().settings_mut().metadata = (oauth, openid);
    }

    /// Queues a fault for the next `times` metadata requests for which no other fault is queued.
    pub fn metadata_fault_times(&self, times: usize, fault: Fault) {
        self.service().metadata_endpoint.faults.push(times, fault);
    }

    /// Sets the fault of every metadata request for which no other fault is queued. Replaces the one set before.
    pub fn metadata_fault_always(&self, fault: Fault) {
        self.service().metadata_endpoint.faults.set_default(fault);
    }

    /// Removes all faults of metadata requests.
    pub fn clear_metadata_faults(&self) {
        self.service().metadata_endpoint.faults.clear();
    }

    /// Returns the number of metadata requests so far.
    pub fn metadata_requests(&self) -> u64 {
        self.service().metadata_endpoint.requests()
    }

    /// Holds every metadata request that arrives from now on until the returned [`Hold`] is released.
    pub fn hold_metadata(&self) -> Hold {
        self.service().metadata_endpoint.holds.hold()
    }

    /// Revokes a token.
    pub fn revoke(&self, token: &str) {
        self.shared_issuer().tokens_mut().revoke(token);
    }

    /// Revokes all tokens issued so far.
    pub fn revoke_all(&self) {
        self.shared_issuer().tokens_mut().revoke_all();
    }

    /// Returns `true` if the token was issued by this server, has neither expired nor been revoked, and has the scope (or several
    /// scopes separated by spaces).
    pub fn is_valid(&self, token: &str, scope: Option<&str>) -> bool {
        let tokens = self.shared_issuer().tokens();
        let Some(issued) = tokens.find_usable(token, Instant::now()) else {
            return false;
        };
        issued.has_scopes(scope.unwrap_or_default().split_ascii_whitespace())
    }

    /// Returns the scopes of a token that was issued by this server, even if it is no longer valid.
    pub fn scopes_of(&self, token: &str) -> Option<Vec<String>> {
        Some(
            self.shared_issuer()
                .tokens()
                .find(token)?
                .authorization
                .scopes
                .clone(),
        )
    }

    pub(super) fn shared_issuer(&self) -> &Arc<Issuer> {
        &self.service().issuer
    }

    /// Returns the certificate authority, generated on first use.
    pub(super) fn authority(&self) -> io::Result<CertificateAuthority> {
        let mut authority = self
            .running
            .authority
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(authority) = &*authority {
            return Ok(authority.clone());
        }
        Ok(authority.insert(CertificateAuthority::generate()?).clone())
    }

    fn service(&self) -> &TokenService {
        &self.running.service
    }
}

impl_controls!(AuthorizationServer, "token request", TokenCall, TokenCounts);

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServer")
            .field("issuer", &self.service().origin)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
