//! A SAML 2.0 assertion as the grant (RFC 7522 §2.1), for companies whose identities are in SAML.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::{
    assertion::{Assertion, AssertionRequest, SharedAssertion},
    endpoint::TokenEndpoint,
    exchange::{Grant, new_token},
};
use crate::{
    error::TokenError,
    source::{SourceId, TokenRequest, TokenSource},
    token::NewToken,
};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:saml2-bearer";

/// Tokens for whomever a SAML 2.0 assertion speaks for. The assertion is XML; it is encoded on the way.
///
/// ```
/// use bytes::Bytes;
/// use tower_bearer::{
///     Secret, TokenSource, TokenSpec,
///     credentials::{ClientAuth, Saml2Bearer, TokenEndpoint},
///     source::TokenRequest,
///     transport::Transport,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// # let provider = Transport::from_fn(async |request| {
/// #     assert!(str::from_utf8(request.body()).unwrap().contains("assertion=PHNhbWw6QXNzZXJ0aW9uLz4&"));
/// #     Ok(http::Response::new(Bytes::from(r#"{"access_token":"abc"}"#)))
/// # });
/// let endpoint = TokenEndpoint::new("https://login.example.com/token")
///     .with_client("orders", ClientAuth::basic("hunter2"))
///     .with_transport(provider);
/// // Or `Secret::from_file`, or `assertion::from_fn`.
/// let source = Saml2Bearer::new(endpoint, Secret::new("<saml:Assertion/>"));
/// let token = source.fetch(&TokenRequest::new(TokenSpec::scopes(["read"]))).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Saml2Bearer {
    endpoint: TokenEndpoint,
    assertion: SharedAssertion,
    identity: Option<SourceId>,
}

impl Saml2Bearer {
    /// Presents these assertions at this endpoint.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint, assertion: impl Assertion) -> Self {
        Self {
            endpoint,
            assertion: SharedAssertion::new(assertion),
            identity: None,
        }
    }

    /// Says who the tokens are for, in place of what the assertions say of themselves.
    #[must_use]
    pub fn with_source_id(mut self, identity: SourceId) -> Self {
        self.identity = Some(identity);
        self
    }
}

impl TokenSource for Saml2Bearer {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        let audience = self.endpoint.uri(request.spec()).await?.to_string();
        let wanted = AssertionRequest::new(audience, request.spec().clone());
        let xml = self.assertion.make(&wanted).await?.expose()?;
        // RFC 7522 §2.1: "the base64url-encoded data SHOULD NOT be line-wrapped and pad characters ("=") SHOULD NOT be
        // included."
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(xml.as_str()));
        let params = [("assertion", encoded.as_str())];
        let grant = Grant::new(GRANT_TYPE, &params);
        new_token(&self.endpoint.exchange(request, grant).await?)
    }

    fn source_id(&self) -> Option<SourceId> {
        let whose = self
            .identity
            .clone()
            .or_else(|| self.assertion.source_id())?;
        let endpoint = self.endpoint.source_id(GRANT_TYPE)?;
        Some(endpoint.with_part("for", &whose))
    }

    fn credential_changed(&self, since: &TokenError) -> bool {
        self.endpoint.credential_changed(since)
    }
}

impl fmt::Debug for Saml2Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saml2Bearer")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}
