//! The handle of the authorization server, and its options.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::fault::Fault;
use super::gate::Hold;
use super::issuer::{Issuer, Settings};
use super::server::{Server, Socket};
use super::tls::Authority;
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
/// - `POST /token`: `client_credentials`, by a client that authenticates with `client_secret_basic` or `client_secret_post`;
///   `scope`, `resource`, `audience` and `claims` are taken; errors are those of RFC 6749, section 5.2.
/// - `POST /introspect` (RFC 7662) and `POST /revoke` (RFC 7009), by a client that authenticates.
/// - `GET /.well-known/openid-configuration` and `/.well-known/oauth-authorization-server`.
///
/// A token is good by Tokio's clock until its lifetime is over: to the nanosecond, while `expires_in` is in whole seconds,
/// rounded down.
#[derive(Clone)]
pub struct AuthorizationServer {
    running: Arc<Running>,
}

/// The options of an [`AuthorizationServer`].
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::testing::AuthorizationServer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let server = AuthorizationServer::builder()
///     .with_client("orders", "s3cret")
///     .with_lifetime(Duration::from_secs(2))
///     .with_tls()
///     .start()
///     .await?;
/// assert!(server.token_url().starts_with("https://localhost:"));
/// assert!(server.ca_pem().is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct AuthorizationServerBuilder {
    settings: Settings,
    tls: bool,
}

struct Running {
    service: Arc<TokenService>,
    /// Made when the first server that speaks TLS needs it.
    authority: Mutex<Option<Authority>>,
    _server: Server,
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
            .map(Authority::ca_pem)
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
        self.shared_issuer()
            .settings_mut()
            .clients
            .insert(id.into(), secret.into());
    }

    /// The scopes that clients may have from now on; `None`, the default, is all. Others are refused with `invalid_scope`.
    pub fn allow_scopes(&self, scopes: Option<Vec<String>>) {
        self.shared_issuer().settings_mut().allowed_scopes = scopes;
    }

    /// While on, a client that asks for the same scopes (and resources and audiences) again gets the token that it last got,
    /// even if that was revoked, until it expires.
    pub fn repeat_token(&self, on: bool) {
        self.shared_issuer().settings_mut().repeat = on;
    }

    /// Makes the tokens that are issued from now on this long, in characters. They never get shorter than the 43 that they
    /// have by default.
    pub fn token_length(&self, characters: usize) {
        self.shared_issuer().settings_mut().token_length = characters;
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
        issued.covers(scope.unwrap_or_default().split_ascii_whitespace())
    }

    /// The scopes of a token that was issued here, whether it is still valid or not.
    pub fn scopes_of(&self, token: &str) -> Option<Vec<String>> {
        Some(
            self.shared_issuer()
                .tokens()
                .find(token)?
                .asked
                .scopes
                .clone(),
        )
    }

    /// Orders a fault for the next token request that no other is ordered for.
    pub fn fault(&self, fault: Fault) {
        self.fault_times(1, fault);
    }

    /// Orders a fault for so many token requests.
    pub fn fault_times(&self, times: usize, fault: Fault) {
        self.service().stage.faults.order(times, fault);
    }

    /// Orders a fault for every token request that no other is ordered for, in place of an earlier one of this kind.
    pub fn fault_always(&self, fault: Fault) {
        self.service().stage.faults.order_always(fault);
    }

    /// Takes back all orders. A request that has met its fault keeps it.
    pub fn clear_faults(&self) {
        self.service().stage.faults.clear();
    }

    /// Leaves the token requests that arrive from now on waiting until the [`Hold`] is released.
    pub fn hold(&self) -> Hold {
        self.service().stage.gate.hold()
    }

    /// Waits until at least so many token requests have arrived since the start, or since the counts were last reset.
    pub async fn wait_for_requests(&self, requests: u64) {
        self.service().stage.wait_for(requests).await;
    }

    /// The token requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<TokenCall> {
        self.service().calls.calls()
    }

    /// Whether to keep the token requests for [`requests`](Self::requests). On by default; a load test may want it off.
    pub fn record(&self, on: bool) {
        self.service().calls.switch(on);
    }

    /// The counters.
    pub fn counts(&self) -> TokenCounts {
        self.service().counts()
    }

    /// Sets the counters to zero and forgets the recorded requests. The tokens stay.
    pub fn reset_counts(&self) {
        self.service().reset();
    }

    pub(super) fn shared_issuer(&self) -> &Arc<Issuer> {
        &self.service().issuer
    }

    /// The authority, made now if there was none.
    pub(super) fn authority(&self) -> io::Result<Authority> {
        let mut authority = self
            .running
            .authority
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(authority) = &*authority {
            return Ok(authority.clone());
        }
        Ok(authority.insert(Authority::generate()?).clone())
    }

    fn service(&self) -> &TokenService {
        &self.running.service
    }
}

impl AuthorizationServerBuilder {
    /// Adds a client. With any, there is no `client` with the secret `secret`.
    pub fn with_client(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.settings.clients.insert(id.into(), secret.into());
        self
    }

    /// How long tokens live; 1 hour by default.
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.settings.lifetime = Some(lifetime);
        self
    }

    /// Speaks TLS, with a certificate for `localhost`, `127.0.0.1` and `::1`. Clients have to trust
    /// [`ca_pem`](AuthorizationServer::ca_pem).
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// As [`AuthorizationServer::start`].
    pub async fn start(mut self) -> io::Result<AuthorizationServer> {
        if self.settings.clients.is_empty() {
            self.settings
                .clients
                .insert("client".into(), "secret".into());
        }
        let authority = if self.tls {
            Some(Authority::generate()?)
        } else {
            None
        };
        let socket = Socket::bind(authority.as_ref().map(Authority::acceptor)).await?;
        let issuer = Arc::new(Issuer::new(self.settings));
        let service = Arc::new(TokenService::new(issuer, socket.origin()));
        let server = socket.serve(service.clone());
        let running = Running {
            service,
            authority: Mutex::new(authority),
            _server: server,
        };
        Ok(AuthorizationServer {
            running: Arc::new(running),
        })
    }
}

impl fmt::Debug for AuthorizationServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationServer")
            .field("issuer", &self.service().origin)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
