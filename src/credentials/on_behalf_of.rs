//! Microsoft's on-behalf-of grant: a service calls the next one in the name of the user who called it.

use std::{fmt, sync::Arc};

use quick_cache::sync::Cache;
use tracing::debug;

use super::{
    endpoint::TokenEndpoint,
    exchange::{Grant, new_token},
    family::Family,
    jwt_bearer::GRANT_TYPE,
};
use crate::{
    error::{ErrorKind, TokenError},
    oauth::TokenResponse,
    secret::Secret,
    source::{SourceId, TokenRequest, TokenSource},
    token::{NewToken, Subject, TokenSpec},
};

/// Tokens on behalf of the user whose token came with a request.
///
/// The user's token goes into the spec, as its [subject](TokenSpec::with_subject); so one cache serves all users, and none
/// ever gets another's token. Give each incoming request a spec of its own:
///
/// ```
/// use tower_bearer::{token::Subject, TokenSpec};
///
/// let stock = TokenSpec::scopes(["api://stock/.default"]);
/// // For each request that came in:
/// let incoming = "eyJhbGciOi";
/// let spec = stock.clone().with_subject(Subject::new(incoming));
/// # let _ = spec;
/// ```
///
/// # Long-running work
/// The user's token ends within the hour, and work that was begun with it may take longer. If the answer to the first
/// request has a refresh token (ask for the scope `offline_access`), it is kept beside the spec, and later tokens come by it,
/// whatever became of the user's own. It is used first, and replaced when the provider rotates it; if it is refused, the user's
/// token is tried again. At most 10,000 are kept, in memory alone, and wiped when they go.
/// [`without_refresh_tokens`](Self::without_refresh_tokens) keeps none: then nothing outlives the user's token but the access
/// tokens themselves.
///
/// It differs from [`TokenExchange`](super::TokenExchange), which does the same by a standard (RFC 8693) that Microsoft does not
/// speak.
///
/// ```
/// use bytes::Bytes;
/// use tower_bearer::{
///     token::Subject, TokenCache, TokenSpec, credentials::{OnBehalfOf, TokenEndpoint},
///     transport::Transport,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// # let provider = Transport::from_fn(async |request| {
/// #     assert!(str::from_utf8(request.body()).unwrap().contains("requested_token_use=on_behalf_of"));
/// #     Ok(http::Response::new(Bytes::from(r#"{"access_token":"abc"}"#)))
/// # });
/// let url = "https://login.microsoftonline.com/acme/oauth2/v2.0/token";
/// let cache = TokenCache::new(OnBehalfOf::new(TokenEndpoint::over(provider, url, "orders", "hunter2")));
/// let spec = TokenSpec::scopes(["api://stock/.default"]).with_subject(Subject::new("eyJhbGciOi"));
/// let token = cache.get(&spec).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct OnBehalfOf {
    endpoint: TokenEndpoint,
    /// By the whole spec: the subject's digest is in it.
    families: Option<Arc<Cache<TokenSpec, Arc<Family>>>>,
}

/// Users times resources.
const MAX_FAMILIES: usize = 10_000;

impl OnBehalfOf {
    /// Asks this endpoint.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint) -> Self {
        Self {
            endpoint,
            families: None,
        }
        .with_max_refresh_tokens(MAX_FAMILIES)
    }

    /// How many refresh tokens are kept: 10,000 unless set. Those used least go first.
    #[must_use]
    pub fn with_max_refresh_tokens(mut self, count: usize) -> Self {
        self.families = Some(Arc::new(Cache::new(count)));
        self
    }

    /// Keeps no refresh tokens.
    #[must_use]
    pub fn without_refresh_tokens(mut self) -> Self {
        self.families = None;
        self
    }

    /// By the refresh token that is kept for the spec, if there is one and it is good.
    async fn refreshed(&self, request: &TokenRequest) -> Result<Option<TokenResponse>, TokenError> {
        let spec = request.spec();
        let Some(families) = &self.families else {
            return Ok(None);
        };
        let Some(family) = families.get(spec) else {
            return Ok(None);
        };
        match family.refresh(&self.endpoint, request).await {
            Ok(response) => Ok(Some(response)),
            Err(error) if error.kind() == ErrorKind::InvalidGrant => {
                debug!(target: "tower_bearer::credentials", %error, "refresh token dropped: the user's own is tried");
                families.remove_if(spec, |kept| Arc::ptr_eq(kept, &family));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// By the user's own token.
    async fn asserted(
        &self,
        request: &TokenRequest,
        subject: &Subject,
    ) -> Result<TokenResponse, TokenError> {
        let params = [
            ("assertion", subject.expose()),
            ("requested_token_use", "on_behalf_of"),
        ];
        let grant = Grant::new(GRANT_TYPE, &params).with_subject();
        let response = self.endpoint.exchange(request, grant).await?;
        if let (Some(families), Some(refresh_token)) = (&self.families, &response.refresh_token) {
            let family = Family::new(Secret::new(refresh_token.as_str()), None);
            families.insert(request.spec().clone(), Arc::new(family));
        }
        Ok(response)
    }
}

impl TokenSource for OnBehalfOf {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        let Some(subject) = request.spec().subject() else {
            return Err(TokenError::configuration(
                "the spec has no subject, so there is nobody on whose behalf: add TokenSpec::with_subject with the token \
                 that the user came with",
            ));
        };
        if let Some(response) = self.refreshed(request).await? {
            return new_token(&response);
        }
        new_token(&self.asserted(request, subject).await?)
    }

    fn source_id(&self) -> SourceId {
        self.endpoint.identity("on_behalf_of")
    }

    fn credential_changed(&self, since: &TokenError) -> bool {
        self.endpoint.credential_changed(since)
    }
}

impl fmt::Debug for OnBehalfOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.families.as_ref().map_or(0, |families| families.len());
        f.debug_struct("OnBehalfOf")
            .field("endpoint", &self.endpoint)
            .field("refresh_tokens", &kept)
            .finish()
    }
}
