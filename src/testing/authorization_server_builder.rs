//! Implements the builder of the authorization server.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::authorization_server::{AuthorizationServer, Running};
use super::issuer::{Issuer, Settings};
use super::public_key::PublicKey;
use super::server::Socket;
use super::tls::CertificateAuthority;
use super::token_service::TokenService;

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
    mutual_tls: bool,
    /// Clients and their public keys, which are parsed when the server starts.
    keys: Vec<(String, String)>,
}

impl AuthorizationServer {
    /// Starts a server with the defaults: plain HTTP, a client `client` with the secret `secret`, tokens with a lifetime of one
    /// hour, and all scopes allowed.
    ///
    /// # Errors
    /// Returns an error if no port is available, or if it is called outside of a Tokio runtime. The runtime needs I/O and time
    /// enabled.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// Returns a builder for a server with other options.
    pub fn builder() -> AuthorizationServerBuilder {
        AuthorizationServerBuilder::default()
    }
}

impl AuthorizationServerBuilder {
    /// Adds a client with a secret. The default client does not exist once any client is added.
    pub fn with_client(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.settings.client(id).secret = Some(secret.into());
        self
    }

    /// Adds a user with a password.
    pub fn with_user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.settings.users.insert(name.into(), password.into());
        self
    }

    /// Adds a client that signs its assertions with a private key (`private_key_jwt`). `public_key` is PEM (`BEGIN PUBLIC KEY`) or
    /// a JWK; [`start`](Self::start) returns an error if it is neither. The default client does not exist once any client is added.
    pub fn with_client_key(mut self, id: impl Into<String>, public_key: impl Into<String>) -> Self {
        self.keys.push((id.into(), public_key.into()));
        self
    }

    /// Adds a client that authenticates with this assertion, signed by a third party. The assertion is compared as a whole and its
    /// signature is not verified. The default client does not exist once any client is added.
    pub fn with_client_assertion(
        mut self,
        id: impl Into<String>,
        assertion: impl Into<String>,
    ) -> Self {
        self.settings.client(id).assertion = Some(assertion.into());
        self
    }

    /// Uses TLS (see [`with_tls`](Self::with_tls)) and requests client certificates. A client with a certificate from
    /// [`client_certificate`](AuthorizationServer::client_certificate) needs no secret.
    pub fn with_mutual_tls(mut self) -> Self {
        self.mutual_tls = true;
        self.with_tls()
    }

    /// Sets the lifetime of tokens. Defaults to one hour.
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.settings.lifetime = Some(lifetime);
        self
    }

    /// Uses TLS with a certificate for `localhost`, `127.0.0.1` and `::1`. Clients have to trust
    /// [`ca_pem`](AuthorizationServer::ca_pem).
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// Returns an error if [`AuthorizationServer::start`] would, or if a client's public key is invalid.
    pub async fn start(mut self) -> io::Result<AuthorizationServer> {
        for (id, key) in self.keys {
            let key = PublicKey::parse(&key)?;
            self.settings.client(id).keys.push(key);
        }
        if self.settings.clients.is_empty() {
            self.settings.client("client").secret = Some("secret".into());
        }
        let authority = if self.tls {
            Some(CertificateAuthority::generate()?)
        } else {
            None
        };
        let acceptor = match &authority {
            Some(authority) if self.mutual_tls => Some(authority.mutual_tls_acceptor()?),
            Some(authority) => Some(authority.acceptor()?),
            None => None,
        };
        let socket = Socket::bind(acceptor).await?;
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
