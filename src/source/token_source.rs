//! Defines [`TokenSource`], the trait of everything that fetches tokens, and a source made of a closure.

use std::{fmt, pin::Pin, sync::Arc};

use super::SourceId;
use crate::{
    error::TokenError,
    token::{FetchReason, NewToken, TokenSpec},
};

/// Fetches new tokens. It never caches: a [`TokenCache`](crate::TokenCache) in front of it does.
///
/// A cache calls a source from one task at a time for each spec, with a deadline, and retries
/// [retryable errors](TokenError::is_retryable). So a source makes one attempt per call, and creates everything that can be
/// used only once, such as an assertion, again for each.
///
/// Use a separate HTTP client in a source. While a rejected request waits for a new token, its response may occupy a
/// connection; a source that waits for that connection would wait until its deadline.
///
/// If a source panics or never returns, the callers of the cache get an error, and the next caller starts another fetch.
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
    message = "`{Self}` is not a token source",
    note = "implement `TokenSource` for it, or wrap an async closure in `tower_bearer::source::from_fn`"
)]
pub trait TokenSource: Send + Sync + 'static {
    /// Makes one attempt to fetch a token for the request.
    ///
    /// # Errors
    /// Returns an error if there is no token. Its [kind](TokenError::kind) decides when the cache tries again.
    fn fetch(
        &self,
        request: &TokenRequest,
    ) -> impl Future<Output = Result<NewToken, TokenError>> + Send;

    /// Returns the identity of this source, for a store that is shared with other processes. The default is `None`: the
    /// tokens of the source stay in this process.
    ///
    /// It must contain everything in addition to the spec that makes its tokens differ from those of another source.
    fn source_id(&self) -> Option<SourceId> {
        None
    }

    /// Returns `true` if the credential of the source (a secret, a key, a certificate) was replaced after this error. The
    /// cache then ends the back-off and fetches again. The default is `false`.
    ///
    /// It is called during the back-off after [`InvalidClient`](crate::ErrorKind::InvalidClient) or
    /// [`Network`](crate::ErrorKind::Network), at most once a second, and should not block. A source that wraps another
    /// one forwards the call.
    fn credential_changed(&self, since: &TokenError) -> bool {
        let _ = since;
        false
    }

    /// Returns `true` if two processes must not fetch at the same time, for example because each use of a refresh token
    /// replaces it. The default is `false`.
    ///
    /// A cache [with a store](crate::cache::CacheBuilder#method.with_store) calls such a source only while it holds a lease that outlasts
    /// the fetch. A process that cannot acquire the lease within the fetch timeout plus about one second returns a retryable
    /// error. While the store is unavailable, processes fetch without a lease.
    fn wants_lease(&self) -> bool {
        false
    }
}

/// A cache's request for a token.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    spec: TokenSpec,
    claims: Option<Arc<str>>,
    reason: FetchReason,
    attempt: u32,
}

impl TokenRequest {
    /// Creates a request for a first attempt, for calling a source without a cache.
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

    /// Sets the claims that a server requires in the token: a JSON object, as in the `claims` parameter of OpenID Connect.
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

    /// Returns the spec of the token.
    #[must_use]
    pub fn spec(&self) -> &TokenSpec {
        &self.spec
    }

    /// Returns the claims that a server requires in the token, for the request parameter `claims`.
    #[must_use]
    pub fn claims(&self) -> Option<&str> {
        self.claims.as_deref()
    }

    /// Returns why the token is fetched.
    #[must_use]
    pub fn reason(&self) -> FetchReason {
        self.reason
    }

    /// Returns the number of this attempt within its fetch, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// Creates a source from an async closure.
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
pub fn from_fn<F, Fut>(fetch: F) -> SourceFn<F>
where
    F: Fn(TokenRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<NewToken, TokenError>> + Send,
{
    SourceFn {
        fetch,
        source_id: None,
    }
}

/// A source created by [`from_fn`].
#[derive(Clone)]
pub struct SourceFn<F> {
    fetch: F,
    source_id: Option<SourceId>,
}

impl<F> SourceFn<F> {
    /// Sets the identity of the source, so that a store can share its tokens.
    ///
    /// ```
    /// use tower_bearer::{NewToken, TokenSource, source::{self, SourceId}};
    ///
    /// let source = source::from_fn(async |_| NewToken::bearer("abc"));
    /// assert!(source.source_id().is_none());
    /// let source = source.with_source_id(SourceId::new("vault").with("role", "orders"));
    /// assert!(source.source_id().is_some());
    /// ```
    #[must_use]
    pub fn with_source_id(mut self, source_id: SourceId) -> Self {
        self.source_id = Some(source_id);
        self
    }
}

impl<F, Fut> TokenSource for SourceFn<F>
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

    fn source_id(&self) -> Option<SourceId> {
        self.source_id.clone()
    }
}

impl<F> fmt::Debug for SourceFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("source::from_fn(_)")
    }
}

/// A shared source of any type.
pub(crate) type SharedSource = Arc<dyn DynSource>;

type FetchFuture<'a> = Pin<Box<dyn Future<Output = Result<NewToken, TokenError>> + Send + 'a>>;

/// The version of [`TokenSource`] that works with `dyn`, because its future is boxed.
pub(crate) trait DynSource: Send + Sync {
    fn fetch_boxed<'a>(&'a self, request: &'a TokenRequest) -> FetchFuture<'a>;

    fn source_id_of(&self) -> Option<SourceId>;

    fn has_another_credential(&self, since: &TokenError) -> bool;

    #[cfg(feature = "store")]
    fn wants_lease(&self) -> bool;
}

impl<S: TokenSource> DynSource for S {
    fn fetch_boxed<'a>(&'a self, request: &'a TokenRequest) -> FetchFuture<'a> {
        Box::pin(self.fetch(request))
    }

    fn source_id_of(&self) -> Option<SourceId> {
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
