//! Implements client authentication. Secrets are read, and assertions signed, again for each attempt.

#[cfg(feature = "jwt")]
use std::time::{Duration, SystemTime};
use std::{fmt, sync::Arc};

use http::Uri;

use super::assertion::{Assertion, AssertionRequest, SharedAssertion};
use crate::{
    error::TokenError,
    oauth::PreparedClientAuth,
    secret::{Exposed, Secret},
    token::TokenSpec,
    util::fingerprint::Fingerprint,
};
#[cfg(feature = "jwt")]
use crate::{
    jwt::{SigningKey, hs256, unique_id},
    oauth::client_claims,
};

/// How a client authenticates at the token endpoint.
///
/// | method | sends | requires |
/// |---|---|---|
/// | [`basic`](Self::basic) | id and secret in a header | the secret |
/// | [`post`](Self::post) | id and secret in the form | the secret |
/// | [`secret_jwt`](Self::secret_jwt) | an assertion signed with the secret | the secret; feature `jwt` |
/// | [`private_key_jwt`](Self::private_key_jwt) | an assertion signed with a key | a [`SigningKey`]; feature `jwt` |
/// | [`assertion`](Self::assertion) | an assertion signed elsewhere | an [`Assertion`], such as a secret in a file |
/// | [`mtls`](Self::mtls) | the id, and a certificate in the TLS handshake | a transport with a certificate |
/// | [`none`](Self::none) | the id | nothing |
///
/// If the provider answers `invalid_client`, the secret, key, assertion or certificate is read again. If it was replaced
/// in the meantime, the request is repeated once.
///
/// ```
/// use tower_bearer::credentials::{ClientAuth, TokenEndpoint};
///
/// let endpoint = TokenEndpoint::new("https://login.example/token").with_client("orders", ClientAuth::post("hunter2"));
/// # let _ = endpoint;
/// ```
#[derive(Clone)]
pub struct ClientAuth {
    method: Method,
    #[cfg(feature = "jwt")]
    options: AssertionOptions,
}

#[derive(Clone)]
enum Method {
    Basic(Secret),
    Post(Secret),
    #[cfg(feature = "jwt")]
    SecretJwt(Secret),
    #[cfg(feature = "jwt")]
    PrivateKeyJwt(SigningKey),
    Assertion(SharedAssertion),
    Mtls,
    None,
}

/// The options of an assertion that is signed here.
#[cfg(feature = "jwt")]
#[derive(Clone, Default, PartialEq)]
struct AssertionOptions {
    audience: Option<Arc<str>>,
    lifetime: Option<Duration>,
}

impl ClientAuth {
    /// Sends client id and secret in the header `Authorization: Basic` (`client_secret_basic`).
    ///
    /// Every provider that issues secrets must support it (RFC 6749 §2.3.1), so
    /// [`ClientCredentials::new`](super::ClientCredentials::new) uses it.
    #[must_use]
    pub fn basic(secret: impl Into<Secret>) -> Self {
        Self::of(Method::Basic(secret.into()))
    }

    /// Sends client id and secret as form parameters (`client_secret_post`).
    #[must_use]
    pub fn post(secret: impl Into<Secret>) -> Self {
        Self::of(Method::Post(secret.into()))
    }

    /// Sends an assertion that is signed with the secret by HS256 (`client_secret_jwt`). The secret itself is never sent. It
    /// must be at least 32 bytes long.
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    #[must_use]
    pub fn secret_jwt(secret: impl Into<Secret>) -> Self {
        Self::of(Method::SecretJwt(secret.into()))
    }

    /// Sends an assertion that is signed with a private key (`private_key_jwt`, RFC 7523). The provider verifies it with the
    /// registered public key.
    ///
    /// ```
    /// use tower_bearer::{
    ///     TokenSource, TokenSpec,
    ///     credentials::{ClientAuth, ClientCredentials, SigningKey, TokenEndpoint},
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
    /// let endpoint = TokenEndpoint::new("https://login.example/token")
    ///     .with_client("orders", ClientAuth::private_key_jwt(key))
    ///     .with_transport(transport);
    /// let source = ClientCredentials::from_endpoint(endpoint);
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

    /// Sends an assertion that was signed elsewhere, such as the token of a Kubernetes service account in a
    /// [file](Secret::from_file). It is requested again for each attempt.
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
    ///
    /// For federation, the token of another provider is the assertion:
    ///
    /// ```
    /// use tower_bearer::{NewToken, TokenCache, TokenSpec, credentials::{ClientAuth, assertion}, source};
    ///
    /// # let other = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// let auth = ClientAuth::assertion(assertion::from_provider(other, TokenSpec::scopes(["api://exchange"])));
    /// assert_eq!(format!("{auth:?}"), "ClientAuth(private_key_jwt)");
    /// ```
    #[must_use]
    pub fn assertion(assertion: impl Assertion) -> Self {
        Self::of(Method::Assertion(Arc::new(assertion)))
    }

    /// Presents a certificate in the TLS handshake (`tls_client_auth` or `self_signed_tls_client_auth`, RFC 8705). It is set
    /// on the transport: see `Transport::with_client_identity_pem`.
    ///
    /// ```
    /// use tower_bearer::credentials::{ClientAuth, TokenEndpoint};
    ///
    /// # #[cfg(feature = "reqwest")] {
    /// let endpoint = TokenEndpoint::new("https://login.example/token").with_client("orders", ClientAuth::mtls());
    /// let error = endpoint.check().unwrap_err();
    /// assert!(error.to_string().contains("with_client_identity"));
    /// # }
    /// ```
    #[must_use]
    pub fn mtls() -> Self {
        Self::of(Method::Mtls)
    }

    /// Sends only the client id, for a public client without a secret.
    #[must_use]
    pub fn none() -> Self {
        Self::of(Method::None)
    }

    /// Sets the audience of an assertion that is signed here. The default is the URL of the token endpoint; some providers
    /// require their issuer.
    ///
    /// ```
    /// use tower_bearer::credentials::ClientAuth;
    ///
    /// let auth = ClientAuth::secret_jwt("hunter2").with_assertion_audience("https://login.example");
    /// # let _ = auth;
    /// ```
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    #[must_use]
    pub fn with_assertion_audience(mut self, audience: impl Into<String>) -> Self {
        self.options.audience = Some(audience.into().into());
        self
    }

    /// Sets the lifetime of an assertion that is signed here, in whole seconds. The default is 2 minutes. The provider's clock
    /// may differ by as much.
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    #[must_use]
    pub fn with_assertion_lifetime(mut self, lifetime: Duration) -> Self {
        self.options.lifetime = Some(lifetime);
        self
    }

    /// Returns the name of the method, as in `token_endpoint_auth_methods_supported` of a provider's metadata (RFC 8414).
    ///
    /// ```
    /// use tower_bearer::credentials::ClientAuth;
    ///
    /// assert_eq!(ClientAuth::mtls().method(), "tls_client_auth");
    /// ```
    #[must_use]
    pub fn method(&self) -> &'static str {
        match &self.method {
            Method::Basic(_) => "client_secret_basic",
            Method::Post(_) => "client_secret_post",
            #[cfg(feature = "jwt")]
            Method::SecretJwt(_) => "client_secret_jwt",
            #[cfg(feature = "jwt")]
            Method::PrivateKeyJwt(_) => "private_key_jwt",
            Method::Assertion(_) => "private_key_jwt",
            Method::Mtls => "tls_client_auth",
            Method::None => "none",
        }
    }

    fn of(method: Method) -> Self {
        Self {
            method,
            #[cfg(feature = "jwt")]
            options: AssertionOptions::default(),
        }
    }

    /// Returns an error if this can't authenticate any client.
    pub(super) fn check(&self) -> Result<(), TokenError> {
        #[cfg(feature = "jwt")]
        match &self.method {
            Method::SecretJwt(_) => {}
            Method::PrivateKeyJwt(key) => return key.check(),
            _ if self.options == AssertionOptions::default() => {}
            _ => {
                return Err(TokenError::configuration(format!(
                    "{} signs no assertion, so with_assertion_audience and with_assertion_lifetime have no effect: remove \
                     them, or choose secret_jwt or private_key_jwt",
                    self.method()
                )));
            }
        }
        Ok(())
    }

    pub(super) fn is_mtls(&self) -> bool {
        matches!(self.method, Method::Mtls)
    }

    /// Returns the parameters that authenticate the client at this endpoint, and the fingerprint of the credential that they
    /// are made of.
    pub(super) async fn prepare(
        &self,
        #[cfg_attr(not(feature = "jwt"), expect(unused_variables))] client_id: &str,
        endpoint: &Uri,
        spec: &TokenSpec,
    ) -> Result<(PreparedClientAuth, Fingerprint), TokenError> {
        let secret = match &self.method {
            Method::Basic(secret) | Method::Post(secret) => secret.expose()?,
            #[cfg(feature = "jwt")]
            Method::SecretJwt(secret) => secret.expose()?,
            #[cfg(feature = "jwt")]
            Method::PrivateKeyJwt(key) => {
                // The fingerprint comes first: a key that is replaced in between counts as changed.
                let fingerprint = key.fingerprint()?;
                let jwt = Exposed::new(key.sign(&self.claims(client_id, endpoint)?)?);
                return Ok((PreparedClientAuth::Assertion(jwt, None), fingerprint));
            }
            Method::Assertion(assertion) => {
                let request = AssertionRequest::new(endpoint.to_string(), spec.clone());
                assertion.make(&request).await?.expose()?
            }
            Method::Mtls | Method::None => {
                return Ok((PreparedClientAuth::Id, Fingerprint::of(&[])));
            }
        };
        let fingerprint = fingerprint(&secret);
        let prepared = match &self.method {
            Method::Basic(_) => PreparedClientAuth::Basic(secret),
            Method::Post(_) => PreparedClientAuth::Post(secret),
            #[cfg(feature = "jwt")]
            Method::SecretJwt(_) => {
                let jwt = hs256(secret.as_str(), &self.claims(client_id, endpoint)?)?;
                PreparedClientAuth::Assertion(Exposed::new(jwt), Some(secret))
            }
            _ => PreparedClientAuth::Assertion(secret, None),
        };
        Ok((prepared, fingerprint))
    }

    /// Returns the fingerprint of the current credential, if it can be read without waiting.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        let secret = match &self.method {
            Method::Basic(secret) | Method::Post(secret) => secret,
            #[cfg(feature = "jwt")]
            Method::SecretJwt(secret) => secret,
            #[cfg(feature = "jwt")]
            Method::PrivateKeyJwt(key) => return key.fingerprint().ok(),
            Method::Assertion(assertion) => assertion.as_secret()?,
            Method::Mtls | Method::None => return Some(Fingerprint::of(&[])),
        };
        secret.expose().ok().map(|exposed| fingerprint(&exposed))
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
        let url = endpoint.to_string();
        let audience = self.options.audience.as_deref().unwrap_or(&url);
        let lifetime = self.options.lifetime.unwrap_or(LIFETIME);
        let (now, id) = (SystemTime::now(), unique_id()?);
        Ok(client_claims(client_id, audience, now, lifetime, id))
    }
}

fn fingerprint(secret: &Exposed) -> Fingerprint {
    Fingerprint::of(secret.as_str().as_bytes())
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientAuth({})", self.method())
    }
}
