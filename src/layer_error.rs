//! [`Error`]: what the layer's service returns: our error, or the inner service's own.

use std::fmt;

use crate::error::TokenError;

/// What a service behind an [`AuthLayer`](crate::AuthLayer) may return: no token, or the inner service's own error.
///
/// ```
/// use tower_bearer::{Error, ErrorKind, TokenError};
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
    /// use tower_bearer::{AuthLayer, Error, NewToken, TokenCache, source};
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
