//! This module defines the error that the layer's service returns.

use std::fmt;

use crate::error::TokenError;

/// The error of a service with an [`AuthLayer`](crate::AuthLayer): a missing token, or an error of the inner service.
///
/// ```
/// use tower_bearer::{layer::Error, ErrorKind, TokenError};
///
/// let error: Error<std::io::Error> = TokenError::new(ErrorKind::Timeout, "no response within 10s").into();
/// assert_eq!(error.token().map(TokenError::kind), Some(ErrorKind::Timeout));
/// ```
#[derive(Debug)]
pub enum Error<E> {
    /// No token could be obtained, so the request was not sent.
    Token(TokenError),
    /// The unchanged error of the inner service.
    Inner(E),
}

impl<E> Error<E> {
    /// Returns the token error. Returns `None` for an error of the inner service.
    pub fn token(&self) -> Option<&TokenError> {
        match self {
            Self::Token(error) => Some(error),
            Self::Inner(_) => None,
        }
    }

    /// Returns the error of the inner service. Returns `None` for a token error.
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Token(_) => None,
            Self::Inner(error) => Some(error),
        }
    }

    /// Converts the error of the inner service.
    pub fn map_inner<F>(self, change: impl FnOnce(E) -> F) -> Error<F> {
        match self {
            Self::Token(error) => Error::Token(error),
            Self::Inner(error) => Error::Inner(change(error)),
        }
    }

    /// Converts to an error with a [`source`](std::error::Error::source).
    ///
    /// An [`Inner`](Self::Inner) has no source, because `E` may not implement [`Error`](std::error::Error) (a boxed error does not).
    /// If an outer service inspects the causes, as tonic does to choose a status code, convert the errors:
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

/// An [`Error`] with a source. Created by [`Error::with_causes`].
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

/// `E` does not have to implement [`Error`](std::error::Error), so this also applies to `Box<dyn Error + Send + Sync>`.
impl<E: fmt::Debug + fmt::Display> std::error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Token(error) => Some(error),
            Self::Inner(_) => None,
        }
    }
}
