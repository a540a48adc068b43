//! [`ClientAuth`]: how a client proves itself, with what is read or made anew for each attempt.

#[cfg(feature = "jwt")]
use std::time::{Duration, SystemTime};
use std::{fmt, pin::Pin, sync::Arc};

use http::Uri;

use crate::{
    error::TokenError,
    oauth::PreparedClientAuth,
    secret::{Exposed, Secret},
    util::fingerprint::Fingerprint,
};
#[cfg(feature = "jwt")]
use crate::{
    jwt::{SigningKey, hs256, unique_id},
    oauth::client_claims,
};

/// How a client proves itself to the provider.
///
/// | method | what is sent | what it needs |
/// |---|---|---|
/// | [`basic`](Self::basic) | id and secret in a header | the secret |
/// | [`post`](Self::post) | id and secret in the form | the secret |
/// | [`secret_jwt`](Self::secret_jwt) | an assertion signed with the secret | the secret, feature `jwt` |
/// | [`private_key_jwt`](Self::private_key_jwt) | an assertion signed with a key | a [`SigningKey`], feature `jwt` |
/// | [`assertion`](Self::assertion), [`assertion_from`](Self::assertion_from) | an assertion that somebody else signed | a file, or whoever has it |
/// | [`mtls`](Self::mtls) | the id; a certificate in the TLS handshake | a transport with a certificate |
/// | [`none`](Self::none) | the id | nothing |
///
/// The secret is the source's. Where none is needed, that is [`Secret::none`].
///
/// A provider may refuse a client because its secret, key, assertion or certificate has just been replaced. So on
/// `invalid_client` it is read again, and if it is another one, the request is sent once more at once.
///
/// ```
/// use tower_bearer::credentials::{ClientAuth, ClientCredentials};
/// # use tower_bearer::transport::Transport;
///
/// # let transport = Transport::from_fn(async |_| Ok(http::Response::default()));
/// let source = ClientCredentials::over(transport, "https://login.example/token", "orders", "hunter2")
///     .with_client_auth(ClientAuth::post());
/// # let _ = source;
/// assert_eq!(ClientAuth::default().method(), "client_secret_basic");
/// ```
#[derive(Clone, Default)]
pub struct ClientAuth {
    method: Method,
    #[cfg(feature = "jwt")]
    audience: Option<Arc<str>>,
    #[cfg(feature = "jwt")]
    lifetime: Option<Duration>,
}

#[derive(Clone, Default)]
enum Method {
    #[default]
    Basic,
    Post,
    #[cfg(feature = "jwt")]
    SecretJwt,
    #[cfg(feature = "jwt")]
    PrivateKeyJwt(SigningKey),
    Assertion(Secret),
    AssertionFrom(Arc<Read>),
    Mtls,
    None,
}

type Read = dyn Fn() -> Reading + Send + Sync;
type Reading = Pin<Box<dyn Future<Output = Result<Secret, TokenError>> + Send>>;

impl ClientAuth {
    /// Client id and secret in the header `Authorization: Basic` (`client_secret_basic`). Every provider that gives
    /// out secrets has to understand it (RFC 6749 §2.3.1), so it is the default.
    #[must_use]
    pub fn basic() -> Self {
        Self::of(Method::Basic)
    }

    /// Client id and secret as parameters of the form (`client_secret_post`).
    #[must_use]
    pub fn post() -> Self {
        Self::of(Method::Post)
    }

    /// An assertion that is signed with the secret, by HS256 (`client_secret_jwt`): the secret itself is never sent. It must
    /// have 32 bytes or more.
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    #[must_use]
    pub fn secret_jwt() -> Self {
        Self::of(Method::SecretJwt)
    }

    /// An assertion that is signed with a private key, whose public half the provider has (`private_key_jwt`, RFC 7523).
    ///
    /// ```
    /// use tower_bearer::{
    ///     Secret, TokenSource, TokenSpec,
    ///     credentials::{ClientAuth, ClientCredentials, SigningKey},
    ///     source::TokenRequest,
    ///     transport::Transport,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
    /// # let transport = Transport::from_fn(async |request| {
    /// #     let form = String::from_utf8_lossy(request.body());
    /// #     assert!(form.contains("client_id=orders&client_assertion_type=urn"), "{form}");
    /// #     Ok(http::Response::new(r#"{"access_token":"abc"}"#.into()))
    /// # });
    /// let key = SigningKey::from_file("tests/vectors/keys/p256.sec1.pem")?.with_key_id("2026-11");
    /// let source = ClientCredentials::over(transport, "https://login.example/token", "orders", Secret::none())
    ///     .with_client_auth(ClientAuth::private_key_jwt(key));
    /// source.check()?;
    /// source.fetch(&TokenRequest::new(TokenSpec::default())).await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    #[must_use]
    pub fn private_key_jwt(key: SigningKey) -> Self {
        Self::of(Method::PrivateKeyJwt(key))
    }

    /// An assertion that somebody else signed: a Kubernetes service account's token, a token of the pipeline. From a
    /// [file](Secret::from_file) or a [function](Secret::from_fn), it is read anew for each attempt.
    ///
    /// ```
    /// use tower_bearer::{Secret, credentials::ClientAuth};
    ///
    /// # fn main() -> Result<(), tower_bearer::TokenError> {
    /// # let path = std::env::temp_dir().join(format!("tower-bearer-assertion-{}", std::process::id()));
    /// # std::fs::write(&path, "a.b.c").unwrap();
    /// let auth = ClientAuth::assertion(Secret::from_file(&path)?);
    /// # std::fs::remove_file(&path).unwrap();
    /// # let _ = auth;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn assertion(assertion: impl Into<Secret>) -> Self {
        Self::of(Method::Assertion(assertion.into()))
    }

    /// An assertion that somebody else gives when asked, for each attempt: another provider's token cache, a metadata
    /// server.
    ///
    /// ```
    /// use tower_bearer::{NewToken, Secret, TokenCache, TokenSpec, credentials::ClientAuth, source};
    ///
    /// # let other = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// // Federation: another cache's token is what this client shows.
    /// let auth = ClientAuth::assertion_from(move || {
    ///     let other = other.clone();
    ///     async move {
    ///         let token = other.get(&TokenSpec::scopes(["api://exchange"])).await?;
    ///         Ok(Secret::new(token.expose()))
    ///     }
    /// });
    /// assert_eq!(format!("{auth:?}"), "ClientAuth(private_key_jwt)");
    /// ```
    pub fn assertion_from<F, Fut>(read: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Secret, TokenError>> + Send + 'static,
    {
        Self::of(Method::AssertionFrom(Arc::new(move || Box::pin(read()))))
    }

    /// A certificate in the TLS handshake (`tls_client_auth` or `self_signed_tls_client_auth`, RFC 8705). The certificate is
    /// the transport's: see `Transport::with_client_identity_pem`.
    ///
    /// ```
    /// use tower_bearer::{Secret, credentials::{ClientAuth, ClientCredentials}};
    ///
    /// # #[cfg(feature = "reqwest")] {
    /// let source = ClientCredentials::new("https://login.example/token", "orders", Secret::none())
    ///     .with_client_auth(ClientAuth::mtls());
    /// let error = source.check().unwrap_err();
    /// assert!(error.to_string().contains("with_client_identity"));
    /// # }
    /// ```
    #[must_use]
    pub fn mtls() -> Self {
        Self::of(Method::Mtls)
    }

    /// The client id alone: a public client, which has no secret.
    #[must_use]
    pub fn none() -> Self {
        Self::of(Method::None)
    }

    /// Whom an assertion that is signed here is meant for: the token endpoint's address unless set. Some providers want their
    /// issuer's.
    ///
    /// ```
    /// use tower_bearer::credentials::ClientAuth;
    ///
    /// let auth = ClientAuth::secret_jwt().with_assertion_audience("https://login.example");
    /// # let _ = auth;
    /// ```
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    #[must_use]
    pub fn with_assertion_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into().into());
        self
    }

    /// How long an assertion that is signed here is good for: 2 minutes unless set, in whole seconds. The clocks of both sides
    /// may differ by as much.
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    #[must_use]
    pub fn with_assertion_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// The name of the method, as providers' metadata list it (RFC 8414's `token_endpoint_auth_methods_supported`).
    ///
    /// ```
    /// use tower_bearer::credentials::ClientAuth;
    ///
    /// assert_eq!(ClientAuth::mtls().method(), "tls_client_auth");
    /// ```
    #[must_use]
    pub fn method(&self) -> &'static str {
        match &self.method {
            Method::Basic => "client_secret_basic",
            Method::Post => "client_secret_post",
            #[cfg(feature = "jwt")]
            Method::SecretJwt => "client_secret_jwt",
            #[cfg(feature = "jwt")]
            Method::PrivateKeyJwt(_) => "private_key_jwt",
            Method::Assertion(_) | Method::AssertionFrom(_) => "private_key_jwt",
            Method::Mtls => "tls_client_auth",
            Method::None => "none",
        }
    }

    fn of(method: Method) -> Self {
        Self {
            method,
            #[cfg(feature = "jwt")]
            audience: None,
            #[cfg(feature = "jwt")]
            lifetime: None,
        }
    }
}

/// What a token endpoint makes of it.
impl ClientAuth {
    /// Whether this can work at all, with this secret.
    pub(super) fn check(&self, secret: &Secret) -> Result<(), TokenError> {
        match &self.method {
            Method::Basic | Method::Post => secret.check()?,
            #[cfg(feature = "jwt")]
            Method::SecretJwt => return secret.check(),
            #[cfg(feature = "jwt")]
            Method::PrivateKeyJwt(key) => return key.check(),
            Method::Assertion(assertion) => assertion.check()?,
            Method::AssertionFrom(_) | Method::Mtls | Method::None => {}
        }
        #[cfg(feature = "jwt")]
        if self.audience.is_some() || self.lifetime.is_some() {
            return Err(TokenError::configuration(format!(
                "an assertion's audience or lifetime is set, and {} signs none here: leave them out, or choose \
                 secret_jwt or private_key_jwt",
                self.method()
            )));
        }
        Ok(())
    }

    pub(super) fn is_mtls(&self) -> bool {
        matches!(self.method, Method::Mtls)
    }

    /// What to show at this endpoint, read and made now; and the mark of what it was made with.
    pub(super) async fn prove(
        &self,
        #[cfg_attr(not(feature = "jwt"), expect(unused_variables))] client_id: &str,
        secret: &Secret,
        #[cfg_attr(not(feature = "jwt"), expect(unused_variables))] endpoint: &Uri,
    ) -> Result<(PreparedClientAuth, Fingerprint), TokenError> {
        Ok(match &self.method {
            Method::Basic => with_mark(secret.expose()?, PreparedClientAuth::Basic),
            Method::Post => with_mark(secret.expose()?, PreparedClientAuth::Post),
            #[cfg(feature = "jwt")]
            Method::SecretJwt => {
                let secret = secret.expose()?;
                let claims = self.claims(client_id, endpoint)?;
                let line = hs256(secret.as_str(), &claims)?;
                let mark = mark(&secret);
                (
                    PreparedClientAuth::Assertion(Exposed::new(line), Some(secret)),
                    mark,
                )
            }
            #[cfg(feature = "jwt")]
            Method::PrivateKeyJwt(key) => {
                let claims = self.claims(client_id, endpoint)?;
                // The mark first: should the key become another in between, that counts as a change.
                let mark = key.fingerprint()?;
                let line = Exposed::new(key.sign(&claims)?);
                (PreparedClientAuth::Assertion(line, None), mark)
            }
            Method::Assertion(assertion) => with_mark(assertion.expose()?, given),
            Method::AssertionFrom(read) => with_mark(read().await?.expose()?, given),
            Method::Mtls | Method::None => (PreparedClientAuth::Id, Fingerprint::of(&[])),
        })
    }

    /// The mark of what it would be made with now, where that can be told without waiting.
    pub(super) fn mark(&self, secret: &Secret) -> Option<Fingerprint> {
        let exposed = match &self.method {
            Method::Basic | Method::Post => secret.expose(),
            #[cfg(feature = "jwt")]
            Method::SecretJwt => secret.expose(),
            #[cfg(feature = "jwt")]
            Method::PrivateKeyJwt(key) => return key.fingerprint().ok(),
            Method::Assertion(assertion) => assertion.expose(),
            Method::AssertionFrom(_) => return None,
            Method::Mtls | Method::None => return Some(Fingerprint::of(&[])),
        };
        exposed.ok().map(|exposed| mark(&exposed))
    }

    #[cfg(feature = "jwt")]
    fn claims(
        &self,
        client_id: &str,
        endpoint: &Uri,
    ) -> Result<serde_json::Map<String, serde_json::Value>, TokenError> {
        const LIFETIME: Duration = Duration::from_secs(120);
        // RFC 7523 §3: "The token endpoint URL of the authorization server MAY be used as a value for an "aud" element to
        // identify the authorization server as an intended audience of the JWT."
        let audience = match &self.audience {
            Some(audience) => audience.to_string(),
            None => endpoint.to_string(),
        };
        let lifetime = self.lifetime.unwrap_or(LIFETIME);
        let id = unique_id()?;
        Ok(client_claims(
            client_id,
            &audience,
            SystemTime::now(),
            lifetime,
            id,
        ))
    }
}

fn given(assertion: Exposed) -> PreparedClientAuth {
    PreparedClientAuth::Assertion(assertion, None)
}

fn with_mark(
    secret: Exposed,
    proof: fn(Exposed) -> PreparedClientAuth,
) -> (PreparedClientAuth, Fingerprint) {
    let mark = mark(&secret);
    (proof(secret), mark)
}

fn mark(secret: &Exposed) -> Fingerprint {
    Fingerprint::of(secret.as_str().as_bytes())
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientAuth({})", self.method())
    }
}
