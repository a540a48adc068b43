//! What can go wrong on the way to a token, sorted by who is to blame.
//!
//! [`TokenError`] is opaque and cheap to clone: everybody who waits for the same token shares the same error.
//! [`Error`] is what the layer's service returns: our error, or the inner service's own.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use crate::util::fingerprint::Fingerprint;

/// Why there is no token.
///
/// The message says what was wrong and what to do about it, and never holds a secret.
///
/// ```
/// use tower_bearer::{ErrorKind, TokenError};
///
/// let error = TokenError::new(ErrorKind::Configuration, "no client id: set ORDERS_CLIENT_ID");
/// assert_eq!(error.kind(), ErrorKind::Configuration);
/// assert!(!error.is_retryable());
/// assert_eq!(error.to_string(), "no client id: set ORDERS_CLIENT_ID");
/// ```
#[derive(Clone)]
pub struct TokenError(Arc<Repr>);

#[derive(Clone)]
struct Repr {
    kind: ErrorKind,
    message: Cow<'static, str>,
    description: Option<Box<str>>,
    retryable: bool,
    retry_after: Option<Duration>,
    claims: Option<Box<str>>,
    mark: Option<Fingerprint>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The party at fault, and how.
///
/// ```
/// use tower_bearer::ErrorKind;
///
/// assert_eq!(ErrorKind::InvalidClient.as_str(), "invalid_client");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Our side: a setting, a route or a spec that can't work.
    Configuration,
    /// The provider doesn't know the client, or not with this secret.
    InvalidClient,
    /// The provider knows the client, which may not use this grant.
    UnauthorizedClient,
    /// The provider refuses the grant: revoked, expired, or made for another client.
    InvalidGrant,
    /// The provider refuses the scopes.
    InvalidScope,
    /// The provider refuses the resource or audience (RFC 8707, RFC 8693).
    InvalidTarget,
    /// The provider, or the person asked, said no.
    AccessDenied,
    /// The provider refuses the request for another reason.
    Refused,
    /// A person must sign in, consent, or prove more.
    InteractionRequired,
    /// The provider asks for fewer requests.
    Throttled,
    /// The provider is out of order.
    Unavailable,
    /// The provider's answer makes no sense.
    Malformed,
    /// The provider did not answer in time.
    Timeout,
    /// The provider could not be reached.
    Network,
}

impl ErrorKind {
    /// The kind's name in snake_case, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::AccessDenied => "access_denied",
            Self::Refused => "refused",
            Self::InteractionRequired => "interaction_required",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::Network => "network",
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    const fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Throttled | Self::Unavailable | Self::Timeout | Self::Network
        )
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TokenError {
    /// An error of this kind; the message says what was wrong and what to do. It must not hold a secret.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Repr {
            kind,
            message: message.into(),
            description: None,
            retryable: kind.is_transient(),
            retry_after: None,
            claims: None,
            mark: None,
            source: None,
        }))
    }

    pub(crate) fn configuration(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// The provider's own words beside the message. They must not hold a secret.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.repr().description = Some(description.into().into_boxed_str());
        self
    }

    /// How long the provider asks us to leave it alone.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.repr().retry_after = Some(after);
        self
    }

    /// Overrides what the kind says about sending the same request again.
    #[must_use]
    pub fn with_retryable(mut self, retryable: bool) -> Self {
        self.repr().retryable = retryable;
        self
    }

    /// The claims that the provider wants to see satisfied, as JSON.
    #[must_use]
    pub fn with_claims(mut self, claims: impl Into<String>) -> Self {
        self.repr().claims = Some(claims.into().into_boxed_str());
        self
    }

    /// The error beneath. It is shown as part of the chain, so it must not hold a secret.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.repr().source = Some(Arc::from(source.into()));
        self
    }

    /// Who is to blame, and how.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// How long to wait before asking again, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The claims that the provider wants to see satisfied, as JSON.
    #[must_use]
    pub fn claims(&self) -> Option<&str> {
        self.0.claims.as_deref()
    }

    /// The provider's own description, cut to a bound and cleaned of control characters.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.0.description.as_deref()
    }

    /// What the client proved itself with when this happened.
    pub(crate) fn with_mark(mut self, mark: Fingerprint) -> Self {
        self.repr().mark = Some(mark);
        self
    }

    pub(crate) fn mark(&self) -> Option<Fingerprint> {
        self.0.mark
    }

    fn repr(&mut self) -> &mut Repr {
        Arc::make_mut(&mut self.0)
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(description) = &self.0.description {
            write!(f, " ({description})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("TokenError");
        out.field("kind", &self.0.kind)
            .field("message", &self.0.message);
        if let Some(description) = &self.0.description {
            out.field("description", description);
        }
        if let Some(after) = &self.0.retry_after {
            out.field("retry_after", after);
        }
        if let Some(source) = &self.0.source {
            out.field("source", source);
        }
        out.finish_non_exhaustive()
    }
}

impl std::error::Error for TokenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// What a service behind an [`AuthLayer`](crate::AuthLayer) may return: no token, or the inner service's own error.
///
/// ```
/// use tower_bearer::{layer::Error, ErrorKind, TokenError};
///
/// let error: Error<std::io::Error> = TokenError::new(ErrorKind::Timeout, "no answer within 10s").into();
/// assert_eq!(error.token().map(TokenError::kind), Some(ErrorKind::Timeout));
/// ```
#[derive(Debug)]
pub enum Error<E> {
    /// There is no token to send, so nothing was sent.
    Token(TokenError),
    /// The inner service's error, as it came.
    Inner(E),
}

impl<E> Error<E> {
    /// Our error, unless it is the inner service's.
    pub fn token(&self) -> Option<&TokenError> {
        match self {
            Self::Token(error) => Some(error),
            Self::Inner(_) => None,
        }
    }

    /// The inner service's error, unless it is ours.
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Token(_) => None,
            Self::Inner(error) => Some(error),
        }
    }
}

impl<E> Error<E> {
    /// The same with the inner service's error changed.
    pub fn map_inner<F>(self, change: impl FnOnce(E) -> F) -> Error<F> {
        match self {
            Self::Token(error) => Error::Token(error),
            Self::Inner(error) => Error::Inner(change(error)),
        }
    }

    /// The same as an error that names its causes.
    ///
    /// [`source`](std::error::Error::source) of an [`Inner`](Self::Inner) is none, since `E` need not be an error type (a
    /// boxed error is not one). Where somebody above looks for causes, as tonic does to tell a status code, map the errors:
    ///
    /// ```
    /// use std::error::Error as _;
    /// use tower::{Service, ServiceBuilder, ServiceExt};
    /// use tower_bearer::{AuthLayer, layer::Error, NewToken, TokenCache, source};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// # let channel = tower::service_fn(async |_: http::Request<()>| {
    /// #     Err::<http::Response<()>, _>(std::io::Error::other("unreachable"))
    /// # });
    /// let mut client = ServiceBuilder::new()
    ///     .map_err(Error::with_causes)
    ///     .layer(AuthLayer::new(cache))
    ///     .service(channel);
    /// # let request = http::Request::get("https://api.example.com").body(()).unwrap();
    /// let error = client.ready().await.unwrap().call(request).await.unwrap_err();
    /// assert!(error.source().unwrap().is::<std::io::Error>());
    /// # Ok(()) }
    /// ```
    pub fn with_causes(self) -> WithCauses<E> {
        WithCauses(self)
    }
}

/// An [`Error`] that names its causes; made by [`Error::with_causes`].
#[derive(Debug)]
pub struct WithCauses<E>(pub Error<E>);

impl<E: fmt::Display> fmt::Display for WithCauses<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: std::error::Error + 'static> std::error::Error for WithCauses<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Error::Token(error) => Some(error),
            Error::Inner(error) => Some(error),
        }
    }
}

impl<E> From<TokenError> for Error<E> {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(error) => write!(f, "no token for the request: {error}"),
            Self::Inner(error) => error.fmt(f),
        }
    }
}

/// Holds for any `E` that can be shown, so for `Box<dyn Error + Send + Sync>` too.
impl<E: fmt::Debug + fmt::Display> std::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Token(error) => Some(error),
            Self::Inner(_) => None,
        }
    }
}
