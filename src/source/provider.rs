//! Defines [`TokenProvider`], the trait of everything that returns usable tokens.

use super::SourceId;
use crate::{
    error::TokenError,
    token::{Token, TokenSpec},
};

/// Returns usable tokens. A [`TokenCache`](crate::TokenCache) is a provider.
///
/// Sources that need the token of another party first, such as a federated assertion or the token of an actor, take a
/// provider, so that this token is cached too.
///
/// ```
/// use tower_bearer::{NewToken, TokenCache, TokenError, TokenProvider, TokenSpec, source};
///
/// async fn length(provider: impl TokenProvider) -> Result<usize, TokenError> {
///     Ok(provider.token(&TokenSpec::default()).await?.expose().len())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), TokenError> {
/// let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
/// assert_eq!(length(cache).await?, 3);
/// # Ok(()) }
/// ```
pub trait TokenProvider: Send + Sync + 'static {
    /// Returns a token that can be sent now.
    ///
    /// # Errors
    /// Returns an error if there is no usable token, and none can be fetched.
    fn token(&self, spec: &TokenSpec) -> impl Future<Output = Result<Token, TokenError>> + Send;

    /// Returns the identity of the source of the tokens; a cache returns that of its source. The default is `None`.
    fn source_id(&self) -> Option<SourceId> {
        None
    }
}
