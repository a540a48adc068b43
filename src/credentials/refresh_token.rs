//! The refresh token grant (RFC 6749 §6): a person signed in once, and the program goes on.

use std::{fmt, sync::Arc};

use tracing::error;

use super::{endpoint::TokenEndpoint, exchange::new_token, family::Family};
use crate::{
    error::{ErrorKind, TokenError},
    secret::Secret,
    source::{SourceId, TokenRequest, TokenSource},
    token::NewToken,
};

/// Tokens for a person who signed in elsewhere, from the refresh token that came of it.
///
/// A provider may replace the refresh token each time it is used: the new one takes the old one's place at once, and
/// [`on_rotation`](Self::on_rotation) is told before the access token is handed out. Without a new one the old one is kept.
///
/// Specs that share this source (or a clone of it) take turns, so that no refresh token is used twice. Two sources that were
/// given the same refresh token don't know of each other: share one source.
///
/// Processes share one by a file, which [`on_rotation`](Self::on_rotation) writes and each use reads, behind caches with a
/// [store](crate::cache::CacheBuilder#method.with_store): there, one process at a time uses it. Give it a
/// [name](Self::with_source_id) that stays when the token changes.
///
/// # When it is refused
/// A provider that answers `invalid_grant` has ended the sign-in: the token is expired, revoked, or was used twice. Then every
/// fetch fails with [`ErrorKind::InvalidGrant`], without asking the provider again, until there is another token: a
/// [file](Secret::from_file) that holds it is read for each fetch, and what has changed there begins anew.
///
/// # When it is cancelled
/// An exchange under way goes on when the flight that wanted it gives up, for up to 30 seconds, so that a refresh token
/// that comes late is kept. What ends it nevertheless is the end of its runtime: then the provider may have replaced a token
/// that nobody received. Give the program time to finish when it ends.
///
/// ```
/// use bytes::Bytes;
/// use tower_bearer::{
///     Secret, TokenCache, TokenSpec,
///     credentials::{RefreshToken, TokenEndpoint},
///     transport::Transport,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// # let provider = Transport::from_fn(async |_| {
/// #     Ok(http::Response::new(Bytes::from(r#"{"access_token":"abc","refresh_token":"second"}"#)))
/// # });
/// let endpoint = TokenEndpoint::over(provider, "https://login.example.com/token", "app", "hunter2");
/// let source = RefreshToken::new(endpoint, Secret::new("first")).on_rotation(async |new| {
///     // Write it to where the next start of the program finds it.
///     assert_eq!(new.expose()?.as_str(), "second");
///     Ok(())
/// });
/// let token = TokenCache::new(source).get(&TokenSpec::scopes(["mail.read"])).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RefreshToken {
    endpoint: TokenEndpoint,
    family: Arc<Family>,
    identity: Option<SourceId>,
}

impl RefreshToken {
    /// Uses this refresh token at this endpoint.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint, refresh_token: impl Into<Secret>) -> Self {
        Self {
            endpoint,
            family: Arc::new(Family::new(refresh_token.into(), None)),
            identity: None,
        }
    }

    /// Tells of each new refresh token, before the access token that came with it is handed out.
    ///
    /// When that fails, the access token is handed out all the same, the failure is logged as an error, and the token is told
    /// again after the next exchange. It has 30 seconds.
    #[must_use]
    pub fn on_rotation<F, Fut>(mut self, keep: F) -> Self
    where
        F: Fn(Secret) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), TokenError>> + Send + 'static,
    {
        let keeper = Arc::new(move |token| Box::pin(keep(token)) as _);
        self.family = Arc::new(self.family.with_keeper(keeper));
        self
    }

    /// Says who signed in, for a [store](SourceId) that outlives the refresh token: unless it is said, they are known by the
    /// digest of the token given first.
    #[must_use]
    pub fn with_source_id(mut self, identity: SourceId) -> Self {
        self.identity = Some(identity);
        self
    }
}

impl TokenSource for RefreshToken {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        if request.spec().subject().is_some() {
            return Err(TokenError::configuration(
                "the spec has a subject, and a refresh token is of the one who signed in: take OnBehalfOf or \
                 TokenExchange, or leave the subject out of the spec",
            ));
        }
        match self.family.refresh(&self.endpoint, request).await {
            Ok(response) => new_token(&response),
            Err(error) if error.kind() == ErrorKind::InvalidGrant => Err(ended(&error)),
            Err(error) => Err(error),
        }
    }

    fn source_id(&self) -> SourceId {
        let endpoint = self.endpoint.identity("refresh_token");
        match &self.identity {
            Some(identity) => endpoint.with_part("for", identity),
            None => endpoint.with_secret("refresh_token", self.family.given()),
        }
    }

    fn credential_changed(&self, since: &TokenError) -> bool {
        self.endpoint.credential_changed(since)
    }

    /// A second use of a refresh token ends the sign-in.
    fn wants_lease(&self) -> bool {
        true
    }
}

/// Loud, since nothing but a person can mend it.
fn ended(error: &TokenError) -> TokenError {
    let said = error.description().unwrap_or("it gave no reason");
    error!(
        target: "tower_bearer::credentials",
        said,
        "the provider refuses the refresh token: nothing works until somebody signs in again",
    );
    TokenError::new(
        ErrorKind::InvalidGrant,
        "the provider refuses the refresh token (invalid_grant): it is expired, revoked or was used twice; sign in again and \
         give the new one",
    )
    .with_description(said)
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken")
            .field("endpoint", &self.endpoint)
            .field("refresh_token", &format_args!("redacted"))
            .finish_non_exhaustive()
    }
}
