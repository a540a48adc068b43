//! Implements a source of a fixed token, such as a personal access token or an API key that is sent as a bearer token.

use crate::{
    error::TokenError,
    secret::Secret,
    source::{SourceId, TokenRequest, TokenSource},
    token::NewToken,
};

/// Returns the same token for every spec.
///
/// Its lifetime is unknown, so a cache assumes [a few minutes](crate::cache::CacheBuilder::with_assumed_lifetime) and then reads it
/// again: a token in a [file](Secret::from_file) may be replaced while the program runs. A rejected token stays in use until
/// it is replaced, and callers receive the 401.
///
/// Scopes, resources and tenants are ignored: add routes only for the API that the token is valid for. A spec with a subject is
/// an error.
///
/// ```
/// use tower_bearer::{Secret, TokenCache, TokenSpec, credentials::Static};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// let cache = TokenCache::new(Static::new(Secret::new("pat-4711")));
/// assert_eq!(cache.get(&TokenSpec::default()).await?.expose(), "pat-4711");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Static(Secret);

impl Static {
    /// Creates a source of this token.
    #[must_use]
    pub fn new(token: impl Into<Secret>) -> Self {
        Self(token.into())
    }
}

impl TokenSource for Static {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        if request.spec().subject().is_some() {
            return Err(TokenError::configuration(
                "the spec has a subject, but a static token is the same for all users: remove the subject from the spec",
            ));
        }
        NewToken::bearer(self.0.expose()?.as_str())
    }

    fn source_id(&self) -> Option<SourceId> {
        SourceId::new("static").with_secret("token", &self.0)
    }
}
