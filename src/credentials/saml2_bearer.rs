//! Implements the SAML 2.0 bearer grant (RFC 7522 §2.1).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{assertion::Assertion, assertion_grant::AssertionGrant, endpoint::TokenEndpoint};
use crate::{
    error::TokenError,
    source::{SourceId, TokenRequest, TokenSource},
    token::NewToken,
};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:saml2-bearer";

/// Exchanges SAML 2.0 assertions for tokens of their subjects.
///
/// The assertion is XML; the source encodes it for the request.
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
#[derive(Clone, Debug)]
pub struct Saml2Bearer(AssertionGrant);

impl Saml2Bearer {
    /// Creates a source that presents these assertions at this endpoint.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint, assertion: impl Assertion) -> Self {
        Self(AssertionGrant::new(GRANT_TYPE, endpoint, assertion))
    }

    /// Sets the identity that the tokens are for, instead of that of the [assertions](Assertion::source_id).
    #[must_use]
    pub fn with_source_id(self, source_id: SourceId) -> Self {
        Self(self.0.with_source_id(source_id))
    }
}

impl TokenSource for Saml2Bearer {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        // RFC 7522 §2.1: "the base64url-encoded data SHOULD NOT be line-wrapped and pad characters ("=") SHOULD NOT be
        // included."
        self.0
            .fetch(request, |xml| URL_SAFE_NO_PAD.encode(xml))
            .await
    }

    fn source_id(&self) -> Option<SourceId> {
        self.0.source_id()
    }

    fn credential_changed(&self, since: &TokenError) -> bool {
        self.0.endpoint.credential_changed(since)
    }
}
