//! The handle of the authorization server, and its options.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::authorization_server_builder::AuthorizationServerBuilder;
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

/// A running OAuth 2.0 authorization server on a port of its own. Clones share it; when the last one drops, its port and its
/// connections close and its tasks end.
///
/// ```
/// use tower_bearer::testing::{AuthorizationServer, Fault};
///
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> std::io::Result<()> {
///     let server = AuthorizationServer::start().await?;
///     assert!(server.token_url().ends_with("/token"));
///
///     // The next two token requests get a 503, the one after it a token.
///     server.fault_times(2, Fault::status(503));
///     assert_eq!(server.counts().requests, 0);
///     Ok(())
/// }
/// ```
///
/// # What it speaks
/// - `POST /token`: by a client that authenticates with `client_secret_basic`, `client_secret_post`, `client_secret_jwt`,
///   `private_key_jwt` or a certificate; `scope`, `resource`,
///   `audience` and `claims` are taken; errors are those of RFC 6749, section 5.2. The grants: `client_credentials`; `refresh_token` of a
///   [user who signed in](Self::sign_in), replaced at each use; `jwt-bearer` and `saml2-bearer` with assertions that the server
///   [believes](Self::trust_assertion), and `jwt-bearer` on behalf of a user; `token-exchange` of tokens of its own and of such assertions;
///   `password` of [users](AuthorizationServerBuilder::with_user).
/// - `POST /introspect` (RFC 7662) and `POST /revoke` (RFC 7009), by a client that authenticates.
/// - `GET /.well-known/openid-configuration` and `/.well-known/oauth-authorization-server`, also of issuers with a path, which is
///   put before or behind as the standards have it. Each such issuer has its `/token` below its path.
///
/// A token is good by Tokio's clock until its lifetime is over: to the nanosecond, while `expires_in` is in whole seconds,
/// rounded down.
#[derive(Clone)]
pub struct AuthorizationServer {
    pub(super) running: Arc<Running>,
}

pub(super) struct Running {
    pub(super) service: Arc<TokenService>,
    /// Made when the first server that speaks TLS needs it.
    pub(super) authority: Mutex<Option<CertificateAuthority>>,
    pub(super) _server: Server,
}

impl AuthorizationServer {
    /// Starts one with the defaults: plain HTTP, a client `client` with the secret `secret`, tokens of one hour, every scope
    /// allowed.
    ///
    /// # Errors
    /// If no port can be had, or outside of a Tokio runtime. The runtime needs its I/O and its time enabled.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// Starts one with other options.
    pub fn builder() -> AuthorizationServerBuilder {
        AuthorizationServerBuilder::default()
    }

    /// The token endpoint: `http://127.0.0.1:PORT/token`, with TLS `https://localhost:PORT/token`.
    pub fn token_url(&self) -> String {
        format!("{}{TOKEN}", self.service().origin)
    }

    /// The issuer as its metadata name it: the origin of [`token_url`](Self::token_url), without a trailing slash.
    pub fn issuer(&self) -> String {
        self.service().origin.clone()
    }

    /// The certificate of the authority that signed the server's, in PEM; `None` as long as neither this server nor an
    /// [`Api`](super::Api) of it speaks TLS.
    pub fn ca_pem(&self) -> Option<String> {
        self.running
            .authority
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(CertificateAuthority::ca_pem)
    }

    /// How long the tokens live that are issued from now on. With `None` they don't end, and the answer has no `expires_in`.
    pub fn set_lifetime(&self, lifetime: Option<Duration>) {
        self.shared_issuer().settings_mut().lifetime = lifetime;
    }

    /// The `refresh_in` of the answers from now on; at first there is none.
    pub fn set_refresh_in(&self, refresh_in: Option<Duration>) {
        self.shared_issuer().settings_mut().refresh_in = refresh_in;
    }

    /// Changes the secret of a client, or adds the client.
    pub fn set_client_secret(&self, id: impl Into<String>, secret: impl Into<String>) {
        let mut settings = self.shared_issuer().settings_mut();
        settings.client(id).secret = Some(secret.into());
    }

    /// Changes the public key of a client that signs its assertions, or adds the client: see
    /// [`with_client_key`](AuthorizationServerBuilder::with_client_key).
    ///
    /// # Errors
    /// It is neither PEM nor a JWK.
    pub fn set_client_key(&self, id: impl Into<String>, public_key: &str) -> io::Result<()> {
        let key = PublicKey::parse(public_key)?;
        let mut settings = self.shared_issuer().settings_mut();
        settings.client(id).keys = vec![key];
        Ok(())
    }

    /// Changes the assertion that a client shows, or adds the client.
    pub fn set_client_assertion(&self, id: impl Into<String>, assertion: impl Into<String>) {
        let mut settings = self.shared_issuer().settings_mut();
        settings.client(id).assertion = Some(assertion.into());
    }

    /// Makes a certificate for a client, in place of an earlier one; or adds the client. The server asks for it if it was started
    /// [`with_mutual_tls`](AuthorizationServerBuilder::with_mutual_tls).
    ///
    /// # Errors
    /// The keys can't be made.
    pub fn client_certificate(&self, id: impl Into<String>) -> io::Result<ClientCertificate> {
        let id = id.into();
        let certificate = self.authority()?.client(&id)?;
        let mut settings = self.shared_issuer().settings_mut();
        settings.client(id).certificate = Some(certificate.der.clone());
        Ok(certificate)
    }

    /// The scopes that clients may have from now on; `None`, the default, is all. Others are refused with `invalid_scope`.
    pub fn allow_scopes(&self, scopes: Option<Vec<String>>) {
        self.shared_issuer().settings_mut().allowed_scopes = scopes;
    }

    /// While on, a client that asks for the same scopes (and resources and audiences) again gets the token that it last got,
    /// even if that was revoked, until it expires.
    pub fn repeat_token(&self, on: bool) {
        self.shared_issuer().settings_mut().repeat_token = on;
    }

    /// Makes the tokens that are issued from now on this long, in characters. They never get shorter than the 43 that they
    /// have by default.
    pub fn token_length(&self, characters: usize) {
        self.shared_issuer().settings_mut().token_length = characters;
    }

    /// Signs a user in who agrees to these scopes: an access token and a refresh token for this client.
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

    /// Believes this assertion from now on: it speaks for this subject.
    pub fn trust_assertion(&self, assertion: impl Into<String>, subject: impl Into<String>) {
        self.shared_issuer()
            .settings_mut()
            .trusted_assertions
            .insert(assertion.into(), subject.into());
    }

    /// Whether users' grants (on behalf of a user, and by password) come with a refresh token; at first they don't.
    pub fn issue_refresh_tokens(&self, on: bool) {
        self.shared_issuer().settings_mut().issue_refresh_tokens = on;
    }

    /// Whether a refresh token is replaced when it is used, and a second use of it ends all its descendants; at first it is so.
    pub fn rotate_refresh_tokens(&self, on: bool) {
        self.shared_issuer().settings_mut().rotate_refresh_tokens = on;
    }

    /// How often refresh tokens were used so far, well or badly.
    pub fn refresh_token_uses(&self) -> u64 {
        self.shared_issuer().refresh_tokens().uses()
    }

    /// Makes every refresh token invalid that was issued so far.
    pub fn revoke_refresh_tokens(&self) {
        self.shared_issuer().refresh_tokens().revoke_all();
    }

    /// Whom a token of this server is for, if it is not for the client itself.
    pub fn subject_of(&self, token: &str) -> Option<String> {
        self.shared_issuer()
            .tokens()
            .find(token)?
            .authorization
            .subject
            .clone()
    }

    /// Who acts for a token's subject.
    pub fn actor_of(&self, token: &str) -> Option<String> {
        self.shared_issuer()
            .tokens()
            .find(token)?
            .authorization
            .actor
            .clone()
    }

    /// Which metadata there are from now on: RFC 8414's document, and that of OpenID Connect; both at first.
    pub fn serve_metadata(&self, oauth: bool, openid: bool) {
        self.shared_issuer().settings_mut().metadata = (oauth, openid);
    }

    /// Orders a fault for so many requests for metadata.
    pub fn metadata_fault_times(&self, times: usize, fault: Fault) {
        self.service().metadata_endpoint.faults.push(times, fault);
    }

    /// Orders a fault for every request for metadata that no other is ordered for.
    pub fn metadata_fault_always(&self, fault: Fault) {
        self.service().metadata_endpoint.faults.set_default(fault);
    }

    /// Takes back all orders for metadata.
    pub fn clear_metadata_faults(&self) {
        self.service().metadata_endpoint.faults.clear();
    }

    /// The requests for metadata so far.
    pub fn metadata_requests(&self) -> u64 {
        self.service().metadata_endpoint.requests()
    }

    /// Leaves the requests for metadata that arrive from now on waiting until the [`Hold`] is released.
    pub fn hold_metadata(&self) -> Hold {
        self.service().metadata_endpoint.holds.hold()
    }

    /// Makes a token invalid.
    pub fn revoke(&self, token: &str) {
        self.shared_issuer().tokens_mut().revoke(token);
    }

    /// Makes every token invalid that was issued so far.
    pub fn revoke_all(&self) {
        self.shared_issuer().tokens_mut().revoke_all();
    }

    /// Whether the token was issued here, has neither expired nor been revoked, and has the scope (or several scopes with
    /// blanks between them).
    pub fn is_valid(&self, token: &str, scope: Option<&str>) -> bool {
        let tokens = self.shared_issuer().tokens();
        let Some(issued) = tokens.find_usable(token, Instant::now()) else {
            return false;
        };
        issued.has_scopes(scope.unwrap_or_default().split_ascii_whitespace())
    }

    /// The scopes of a token that was issued here, whether it is still valid or not.
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

    /// The authority, made now if there was none.
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
