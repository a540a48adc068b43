//! Where tokens come from: [`TokenSource`] fetches one, [`TokenProvider`] has one.

use std::{fmt, pin::Pin, sync::Arc};

mod source_id;

use crate::{
    error::TokenError,
    token::{FetchReason, NewToken, Token, TokenSpec},
};
pub use source_id::SourceId;

/// Obtains a new token. It fetches and never caches: the [`TokenCache`](crate::TokenCache) in front of it does.
///
/// A source is asked by one task at a time for each spec, inside a deadline, and tried again by the cache when its
/// error [is retryable](TokenError::is_retryable). So it makes one attempt, and makes everything that may be used
/// once (an assertion, say) anew for each.
///
/// Give it a client of its own. While a refused request waits for the next token, its first answer may keep a connection;
/// a source that waits for that very connection would wait until its deadline.
///
/// It may panic or never return: the cache's callers get an error, and the next one starts another fetch.
///
/// ```
/// use tower_bearer::{NewToken, TokenCache, TokenError, TokenSource, TokenSpec, source::TokenRequest};
///
/// struct FromTheVault;
///
/// impl TokenSource for FromTheVault {
///     async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
///         let scopes: Vec<_> = request.spec().iter_scopes().collect();
///         NewToken::bearer(&format!("vault-{}", scopes.join("-")))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), TokenError> {
/// let cache = TokenCache::new(FromTheVault);
/// assert_eq!(cache.get(&TokenSpec::scopes(["read"])).await?.expose(), "vault-read");
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` obtains no tokens",
    note = "implement `TokenSource` for it, or wrap an async closure in `tower_bearer::source::from_fn`"
)]
pub trait TokenSource: Send + Sync + 'static {
    /// Makes one attempt to get a token for the request.
    ///
    /// # Errors
    /// Whatever went wrong. Its [kind](TokenError::kind) decides how long the provider is left alone.
    fn fetch(
        &self,
        request: &TokenRequest,
    ) -> impl Future<Output = Result<NewToken, TokenError>> + Send;

    /// Who this source is, for a store that others use too. Unless it is overridden there is no identity, and the source's
    /// tokens stay in this process.
    ///
    /// It must name everything beside the spec that makes its tokens differ from another source's.
    fn source_id(&self) -> SourceId {
        SourceId::unnamed()
    }

    /// Whether what the source proves itself with (a secret, a key, a certificate) is another one than when it failed with
    /// this error. If so, the cache asks again at once, and not when the wait after the failure is over.
    ///
    /// It is asked while the provider is left alone after [`InvalidClient`](crate::ErrorKind::InvalidClient) or
    /// [`Network`](crate::ErrorKind::Network), at most once a second, and should not take long. A source around another
    /// one asks that one.
    fn credential_changed(&self, since: &TokenError) -> bool {
        let _ = since;
        false
    }

    /// Whether two processes of a fleet must not fetch at the same time: each use of a rotating refresh token ends it, say.
    ///
    /// Behind a cache [with a store](crate::cache::CacheBuilder#method.with_store), such a source is asked under a lease that outlasts
    /// the fetch. Who doesn't get it within the fetch timeout and about a second, since others have it one after another, gets an
    /// error that is retryable. While the store itself fails, everybody asks without: no store is ever the reason why there is
    /// no token. Unless it is overridden, no.
    fn wants_lease(&self) -> bool {
        false
    }
}

/// What a cache asks a source for.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    spec: TokenSpec,
    claims: Option<Arc<str>>,
    reason: FetchReason,
    attempt: u32,
}

impl TokenRequest {
    /// A first attempt to get the token that the spec names, for whoever calls a source without a cache.
    ///
    /// ```
    /// use tower_bearer::{TokenSpec, source::TokenRequest};
    ///
    /// let request = TokenRequest::new(TokenSpec::scopes(["read"]));
    /// assert_eq!(request.attempt(), 1);
    /// ```
    #[must_use]
    pub fn new(spec: TokenSpec) -> Self {
        Self {
            spec,
            claims: None,
            reason: FetchReason::Missing,
            attempt: 1,
        }
    }

    /// With the claims that a server wants of the token: a JSON object, OpenID's claims request.
    ///
    /// ```
    /// use tower_bearer::{TokenSpec, source::TokenRequest};
    ///
    /// let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#;
    /// let request = TokenRequest::new(TokenSpec::scopes(["read"])).with_claims(claims);
    /// assert_eq!(request.claims(), Some(claims));
    /// ```
    #[must_use]
    pub fn with_claims(mut self, claims: impl Into<Arc<str>>) -> Self {
        self.claims = Some(claims.into());
        self
    }

    pub(crate) fn because(mut self, reason: FetchReason) -> Self {
        self.reason = reason;
        self
    }

    pub(crate) fn next_attempt(&mut self) {
        self.attempt += 1;
    }

    /// Which token. The scopes that a server wants beside those of the cache's key are in it.
    #[must_use]
    pub fn spec(&self) -> &TokenSpec {
        &self.spec
    }

    /// The claims that a server wants of the token, if one does: they go into the request's parameter `claims`.
    #[must_use]
    pub fn claims(&self) -> Option<&str> {
        self.claims.as_deref()
    }

    /// Why it is wanted.
    #[must_use]
    pub fn reason(&self) -> FetchReason {
        self.reason
    }

    /// Which attempt of the same fetch this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// A source made of an async closure.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{NewToken, TokenCache, source};
///
/// let cache = TokenCache::new(source::from_fn(async |request| {
///     let text = format!("{}-{}", request.spec().tenant().unwrap_or("home"), request.attempt());
///     Ok(NewToken::bearer(&text)?.with_lifetime(Duration::from_secs(60)))
/// }));
/// # let _ = cache;
/// ```
pub fn from_fn<F, Fut>(fetch: F) -> FromFn<F>
where
    F: Fn(TokenRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<NewToken, TokenError>> + Send,
{
    FromFn {
        fetch,
        identity: SourceId::unnamed(),
    }
}

/// A source made by [`from_fn`].
#[derive(Clone)]
pub struct FromFn<F> {
    fetch: F,
    identity: SourceId,
}

impl<F> FromFn<F> {
    /// Gives the source an identity, so that a store may share its tokens.
    ///
    /// ```
    /// use tower_bearer::{NewToken, TokenSource, source::{self, SourceId}};
    ///
    /// let source = source::from_fn(async |_| NewToken::bearer("abc"));
    /// assert!(!source.source_id().is_named());
    /// let source = source.with_source_id(SourceId::new("vault").with("role", "orders"));
    /// assert!(source.source_id().is_named());
    /// ```
    #[must_use]
    pub fn with_source_id(mut self, identity: SourceId) -> Self {
        self.identity = identity;
        self
    }
}

impl<F, Fut> TokenSource for FromFn<F>
where
    F: Fn(TokenRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<NewToken, TokenError>> + Send,
{
    fn fetch(
        &self,
        request: &TokenRequest,
    ) -> impl Future<Output = Result<NewToken, TokenError>> + Send {
        (self.fetch)(request.clone())
    }

    fn source_id(&self) -> SourceId {
        self.identity.clone()
    }
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("source::from_fn(_)")
    }
}

/// Has a token for a spec, from wherever. A [`TokenCache`](crate::TokenCache) is one.
///
/// Whatever needs somebody else's token first (a federated assertion, an actor) takes a provider, so that it gets a
/// cached one.
///
/// ```
/// use tower_bearer::{NewToken, TokenCache, TokenError, source::{self, TokenProvider}, TokenSpec};
///
/// async fn whoever(provider: impl TokenProvider) -> Result<usize, TokenError> {
///     Ok(provider.token(&TokenSpec::default()).await?.expose().len())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), TokenError> {
/// let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
/// assert_eq!(whoever(cache).await?, 3);
/// # Ok(()) }
/// ```
pub trait TokenProvider: Send + Sync + 'static {
    /// A token that can be sent now.
    ///
    /// # Errors
    /// There is none, and none can be had.
    fn token(&self, spec: &TokenSpec) -> impl Future<Output = Result<Token, TokenError>> + Send;

    /// Who the tokens are from: a cache has its source's identity. Unless it is overridden there is none.
    fn source_id(&self) -> SourceId {
        SourceId::unnamed()
    }
}

/// A source behind a pointer: the boxed twin of [`TokenSource`], for the cache to keep.
pub(crate) type SharedSource = Arc<dyn DynSource>;

pub(crate) type Fetching<'a> =
    Pin<Box<dyn Future<Output = Result<NewToken, TokenError>> + Send + 'a>>;

pub(crate) trait DynSource: Send + Sync {
    fn fetch_boxed<'a>(&'a self, request: &'a TokenRequest) -> Fetching<'a>;

    fn source_id_of(&self) -> SourceId;

    fn has_another_credential(&self, since: &TokenError) -> bool;
    #[cfg(feature = "store")]
    fn wants_lease(&self) -> bool;
}

impl<S: TokenSource> DynSource for S {
    fn fetch_boxed<'a>(&'a self, request: &'a TokenRequest) -> Fetching<'a> {
        Box::pin(self.fetch(request))
    }

    fn source_id_of(&self) -> SourceId {
        self.source_id()
    }

    fn has_another_credential(&self, since: &TokenError) -> bool {
        self.credential_changed(since)
    }

    #[cfg(feature = "store")]
    fn wants_lease(&self) -> bool {
        TokenSource::wants_lease(self)
    }
}
