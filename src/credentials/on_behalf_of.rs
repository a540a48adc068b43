//! Implements Microsoft's on-behalf-of grant.

use std::{fmt, sync::Arc};

use quick_cache::sync::Cache;
use tracing::debug;

use super::{
    endpoint::TokenEndpoint, exchange::new_token, jwt_bearer::GRANT_TYPE, rotation::RotatingToken,
};
use crate::{
    error::{ErrorKind, TokenError},
    oauth::TokenResponse,
    secret::Secret,
    source::{SourceId, TokenRequest, TokenSource},
    token::{NewToken, Subject, TokenSpec},
};

/// Fetches tokens for calling another service on behalf of the calling user, at Microsoft's provider.
///
/// The token of the user is the [subject](TokenSpec::with_subject) of the spec. So one cache serves all users, and no user gets
/// the token of another. Make a spec for each incoming request:
///
/// ```
/// use tower_bearer::{TokenSpec, token::Subject};
///
/// let stock = TokenSpec::scopes(["api://stock/.default"]);
/// // For each incoming request:
/// let incoming = "eyJhbGciOi";
/// let spec = stock.clone().with_subject(Subject::new(incoming));
/// # let _ = spec;
/// ```
///
/// # Long-running work
/// The token of the user expires within the hour, and work that it started may take longer. If the first response
/// contains a refresh token (request the scope `offline_access`), the source stores it for the spec and uses it for later
/// tokens, even after the user's token has expired. If the provider rejects it, the user's token is used again. At most 10,000
/// refresh tokens are stored, only in memory, and wiped when they are evicted.
/// With [`without_refresh_tokens`](Self::without_refresh_tokens), none is stored: then only the access tokens outlive the user's
/// token.
///
/// [`TokenExchange`](super::TokenExchange) implements the standard for the same purpose (RFC 8693), which Microsoft does not
/// support.
///
/// ```
/// use bytes::Bytes;
/// use tower_bearer::{
///     TokenCache, TokenSpec,
///     credentials::{ClientAuth, OnBehalfOf, TokenEndpoint},
///     token::Subject,
///     transport::Transport,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// # let provider = Transport::from_fn(async |request| {
/// #     assert!(str::from_utf8(request.body()).unwrap().contains("requested_token_use=on_behalf_of"));
/// #     Ok(http::Response::new(Bytes::from(r#"{"access_token":"abc"}"#)))
/// # });
/// let url = "https://login.microsoftonline.com/acme/oauth2/v2.0/token";
/// let endpoint = TokenEndpoint::new(url)
///     .with_client("orders", ClientAuth::basic("hunter2"))
///     .with_transport(provider);
/// let cache = TokenCache::new(OnBehalfOf::new(endpoint));
/// let spec = TokenSpec::scopes(["api://stock/.default"]).with_subject(Subject::new("eyJhbGciOi"));
/// let token = cache.get(&spec).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct OnBehalfOf {
    endpoint: TokenEndpoint,
    /// By spec, which contains the digest of the subject.
    refresh_tokens: Option<Arc<Cache<TokenSpec, Arc<RotatingToken>>>>,
}

/// One for each user and resource.
const MAX_REFRESH_TOKENS: usize = 10_000;

impl OnBehalfOf {
    /// Creates a source that requests tokens from this endpoint.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint) -> Self {
        Self {
            endpoint,
            refresh_tokens: Some(Arc::new(Cache::new(MAX_REFRESH_TOKENS))),
        }
    }

    /// Sets how many refresh tokens are stored. The default is 10,000. The least used are evicted first.
    #[must_use]
    pub fn with_max_refresh_tokens(mut self, count: usize) -> Self {
        self.refresh_tokens = Some(Arc::new(Cache::new(count)));
        self
    }

    /// Stores no refresh tokens.
    #[must_use]
    pub fn without_refresh_tokens(mut self) -> Self {
        self.refresh_tokens = None;
        self
    }

    /// Requests a token with the refresh token of the spec. Returns `None` without a refresh token, or if the provider rejects it.
    async fn refreshed(&self, request: &TokenRequest) -> Result<Option<TokenResponse>, TokenError> {
        let spec = request.spec();
        let tokens = self.refresh_tokens.as_ref();
        let Some((tokens, token)) = tokens.and_then(|tokens| Some((tokens, tokens.get(spec)?)))
        else {
            return Ok(None);
        };
        match token.refresh(&self.endpoint, request).await {
            Ok(response) => Ok(Some(response)),
            Err(error) if error.kind() == ErrorKind::InvalidGrant => {
                debug!(target: "tower_bearer::credentials", %error, "the provider rejected the refresh token: using the user's token");
                tokens.remove_if(spec, |stored| Arc::ptr_eq(stored, &token));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Requests a token with the token of the user.
    async fn asserted(
        &self,
        request: &TokenRequest,
        subject: &Subject,
    ) -> Result<TokenResponse, TokenError> {
        let params = [
            ("assertion", subject.expose()),
            ("requested_token_use", "on_behalf_of"),
        ];
        let response = self.endpoint.exchange(request, GRANT_TYPE, &params).await?;
        if let (Some(refresh_tokens), Some(refresh_token)) =
            (&self.refresh_tokens, &response.refresh_token)
        {
            let rotating = RotatingToken::new(Secret::new(refresh_token.as_str()), None);
            refresh_tokens.insert(request.spec().clone(), Arc::new(rotating));
        }
        Ok(response)
    }
}

impl TokenSource for OnBehalfOf {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        let Some(subject) = request.spec().subject() else {
            return Err(TokenError::configuration(
                "the spec has no subject: call TokenSpec::with_subject with the token of the calling user",
            ));
        };
        let response = match self.refreshed(request).await? {
            Some(response) => response,
            None => self.asserted(request, subject).await?,
        };
        new_token(&response)
    }

    fn source_id(&self) -> Option<SourceId> {
        self.endpoint.source_id("on_behalf_of")
    }

    fn credential_changed(&self, since: &TokenError) -> bool {
        self.endpoint.credential_changed(since)
    }
}

impl fmt::Debug for OnBehalfOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.refresh_tokens.as_ref();
        f.debug_struct("OnBehalfOf")
            .field("endpoint", &self.endpoint)
            .field("refresh_tokens", &tokens.map_or(0, |tokens| tokens.len()))
            .finish()
    }
}
