//! Implements the refresh token grant (RFC 6749 §6).

use std::sync::Arc;

use tracing::error;

use super::{endpoint::TokenEndpoint, exchange::new_token, rotation::RotatingToken};
use crate::{
    error::{ErrorKind, TokenError},
    secret::Secret,
    source::{SourceId, TokenRequest, TokenSource},
    token::NewToken,
};

/// Fetches tokens for a user who signed in elsewhere, with the user's refresh token.
///
/// A provider may replace the refresh token at each use. The source then uses the new one, and passes it to the callback
/// [`on_rotation`](Self::on_rotation) before it returns the access token. Otherwise it continues to use the current one.
///
/// Fetches of one source and its clones are serialized, so that no refresh token is used twice. Two sources that are created
/// from the same refresh token are not coordinated: share one source.
///
/// Processes can share a refresh token in a file that [`on_rotation`](Self::on_rotation) writes and each fetch reads. Put
/// the source behind caches with a [store](crate::cache::CacheBuilder#method.with_store), which let one process fetch at a time, and set a
/// [source id](Self::with_source_id) that does not change with the token.
///
/// # Rejection
/// A provider that answers `invalid_grant` has ended the sign-in: the token is expired, revoked, or was used twice. Every
/// fetch then fails with [`ErrorKind::InvalidGrant`], without a request to the provider, until the token is replaced. A
/// token in a [file](Secret::from_file) is read again for each fetch.
///
/// # Cancellation
/// An exchange continues for up to 30 seconds after its fetch was cancelled, so that the new refresh token is stored. If the
/// runtime shuts down during an exchange, the new refresh token is lost. Let the program finish its fetches before it exits.
///
/// ```
/// use bytes::Bytes;
/// use tower_bearer::{
///     Secret, TokenCache, TokenSpec,
///     credentials::{ClientAuth, RefreshToken, TokenEndpoint},
///     transport::Transport,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// # let provider = Transport::from_fn(async |_| {
/// #     Ok(http::Response::new(Bytes::from(r#"{"access_token":"abc","refresh_token":"second"}"#)))
/// # });
/// let endpoint = TokenEndpoint::new("https://login.example.com/token")
///     .with_client("app", ClientAuth::basic("hunter2"))
///     .with_transport(provider);
/// let source = RefreshToken::new(endpoint, Secret::new("first")).on_rotation(async |new| {
///     // Save it, so that the next start of the program uses it.
///     assert_eq!(new.expose()?.as_str(), "second");
///     Ok(())
/// });
/// let token = TokenCache::new(source).get(&TokenSpec::scopes(["mail.read"])).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RefreshToken {
    endpoint: TokenEndpoint,
    rotating: Arc<RotatingToken>,
    source_id: Option<SourceId>,
}

impl RefreshToken {
    /// Creates a source that uses this refresh token at this endpoint.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint, refresh_token: impl Into<Secret>) -> Self {
        Self {
            endpoint,
            rotating: Arc::new(RotatingToken::new(refresh_token.into(), None)),
            source_id: None,
        }
    }

    /// Sets a callback that saves each new refresh token. It runs before the access token is returned, and has 30 seconds.
    ///
    /// If it fails, the failure is logged as an error, the access token is returned nevertheless, and the callback is called
    /// again after the next exchange.
    #[must_use]
    pub fn on_rotation<F, Fut>(mut self, save: F) -> Self
    where
        F: Fn(Secret) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), TokenError>> + Send + 'static,
    {
        let callback = Arc::new(move |token| Box::pin(save(token)) as _);
        let given = self.rotating.given.clone();
        self.rotating = Arc::new(RotatingToken::new(given, Some(callback)));
        self
    }

    /// Sets the identity of the user who signed in, for a [store](SourceId) that outlives the refresh token. The default is the
    /// digest of the given token.
    #[must_use]
    pub fn with_source_id(mut self, source_id: SourceId) -> Self {
        self.source_id = Some(source_id);
        self
    }
}

impl TokenSource for RefreshToken {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        if request.spec().subject().is_some() {
            return Err(TokenError::configuration(
                "the spec has a subject, but a refresh token is for the user who signed in: use OnBehalfOf or \
                 TokenExchange, or remove the subject from the spec",
            ));
        }
        match self.rotating.refresh(&self.endpoint, request).await {
            Ok(response) => new_token(&response),
            Err(error) if error.kind() == ErrorKind::InvalidGrant => Err(ended(&error)),
            Err(error) => Err(error),
        }
    }

    fn source_id(&self) -> Option<SourceId> {
        let endpoint = self.endpoint.source_id("refresh_token")?;
        match &self.source_id {
            Some(user) => Some(endpoint.with_part("for", user)),
            None => endpoint.with_secret("refresh_token", &self.rotating.given),
        }
    }

    fn credential_changed(&self, since: &TokenError) -> bool {
        self.endpoint.credential_changed(since)
    }

    /// Two processes must not use the same refresh token: the provider would end the sign-in.
    fn wants_lease(&self) -> bool {
        true
    }
}

/// Logs the end of the sign-in as an error, because a person must act.
fn ended(error: &TokenError) -> TokenError {
    let reason = error.description().unwrap_or("no reason given");
    error!(
        target: "tower_bearer::credentials",
        reason,
        "the provider rejected the refresh token: the user must sign in again",
    );
    TokenError::new(
        ErrorKind::InvalidGrant,
        "the provider rejected the refresh token (invalid_grant): it is expired, revoked or was used twice; sign in again and \
         configure the new one",
    )
    .with_description(reason)
}
