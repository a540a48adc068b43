//! Defines [`TokenProvider`], the trait of everything that returns usable tokens.

use super::SourceId;
use crate::{error::TokenError, spec::TokenSpec, token::Token};

/// Has a token for a spec, from wherever. A [`TokenCache`](crate::TokenCache) is one.
///
/// Whatever needs somebody else's token first (a federated assertion, an actor) takes a provider, so that it gets a
/// cached one.
///
/// ```
/// use tower_bearer::{NewToken, TokenCache, TokenError, TokenProvider, TokenSpec, source};
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

    /// Returns the identity of the source of the tokens; a cache returns that of its source. The default is `None`.
    fn source_id(&self) -> Option<SourceId> {
        None
    }
}
