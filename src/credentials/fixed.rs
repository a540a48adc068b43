//! A token that somebody made by hand: a personal access token, an API key that is sent as a bearer token.

use crate::{
    error::TokenError,
    secret::Secret,
    source::{SourceId, TokenRequest, TokenSource},
    token::NewToken,
};

/// The same token for everything that is asked for.
///
/// Nobody says how long it lives, so a cache assumes [a few minutes](crate::cache::CacheBuilder::with_assumed_lifetime) and then
/// reads it anew: a token in a [file](Secret::from_file) may be replaced while the program runs. One that is refused stays in
/// service as long as there is no other, and the caller gets the 401.
///
/// It can't know scopes, resources or tenants: route it only to where it belongs. A spec with a subject is an error.
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
    /// This token.
    #[must_use]
    pub fn new(token: impl Into<Secret>) -> Self {
        Self(token.into())
    }
}

impl TokenSource for Static {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        if request.spec().subject().is_some() {
            return Err(TokenError::configuration(
                "the spec has a subject, and a static token is on nobody's behalf: leave the subject out of the spec",
            ));
        }
        NewToken::bearer(self.0.expose()?.as_str())
    }

    fn source_id(&self) -> SourceId {
        SourceId::new("static").with_secret("token", &self.0)
    }
}
