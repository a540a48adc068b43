//! Implements the JWT bearer grant (RFC 7523 §2.1).

#[cfg(feature = "jwt")]
use super::signed::service_account;
use super::{assertion::Assertion, assertion_grant::AssertionGrant, endpoint::TokenEndpoint};
#[cfg(feature = "jwt")]
use crate::transport::Transport;
use crate::{
    error::TokenError,
    source::{SourceId, TokenRequest, TokenSource},
    token::NewToken,
};

pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Exchanges JWTs for tokens of their subjects: service accounts that sign their own, or workloads with a token of their
/// platform.
///
/// The assertion of [`OnBehalfOf`](super::OnBehalfOf) is the token of the calling user instead. An assertion for
/// [`ClientAuth`](super::ClientAuth::assertion) authenticates the client; it does not say who the token is for.
///
/// ```
/// use bytes::Bytes;
/// use tower_bearer::{
///     Secret, TokenSource, TokenSpec,
///     credentials::{JwtBearer, TokenEndpoint, assertion},
///     source::TokenRequest,
///     transport::Transport,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// # let provider = Transport::from_fn(async |request| {
/// #     assert!(str::from_utf8(request.body()).unwrap().contains("assertion=signed+for+https%3A%2F%2Foauth2"));
/// #     Ok(http::Response::new(Bytes::from(r#"{"access_token":"abc"}"#)))
/// # });
/// let endpoint = TokenEndpoint::new("https://oauth2.example.com/token").with_transport(provider);
/// let source = JwtBearer::new(endpoint, assertion::from_fn(async |request| {
///     // Sign the claims here: the audience, and the other claims that the provider requires.
///     Ok(Secret::new(format!("signed for {}", request.audience())))
/// }));
/// let token = source.fetch(&TokenRequest::new(TokenSpec::scopes(["read"]))).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct JwtBearer(AssertionGrant);

impl JwtBearer {
    /// Creates a source that presents these assertions at this endpoint.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint, assertion: impl Assertion) -> Self {
        Self(AssertionGrant::new(GRANT_TYPE, endpoint, assertion))
    }

    /// Creates a source for a Google service account, from the JSON file of its key.
    ///
    /// # Errors
    /// Returns an error if `json` is not such a file, or its key can't sign.
    ///
    /// ```
    /// use tower_bearer::{credentials::JwtBearer, transport::Transport};
    ///
    /// # let pem = include_str!("../../tests/vectors/keys/rsa.pkcs8.pem");
    /// # let json = serde_json::json!({
    /// #     "type": "service_account", "client_email": "robot@project.iam.gserviceaccount.com",
    /// #     "private_key": pem, "token_uri": "https://oauth2.googleapis.com/token",
    /// # }).to_string();
    /// # let transport = Transport::from_fn(async |_| Ok(http::Response::default()));
    /// let source = JwtBearer::service_account(transport, &json)?;
    /// assert!(!format!("{source:?}").contains("PRIVATE KEY"));
    /// # Ok::<_, tower_bearer::TokenError>(())
    /// ```
    #[cfg(feature = "jwt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "jwt")))]
    pub fn service_account(transport: Transport, json: &str) -> Result<Self, TokenError> {
        let (token_uri, assertion) = service_account(json)?;
        let endpoint = TokenEndpoint::new(token_uri).with_transport(transport);
        Ok(Self::new(endpoint, assertion))
    }

    /// Sets the identity that the tokens are for, instead of that of the [assertions](Assertion::source_id).
    #[must_use]
    pub fn with_source_id(self, source_id: SourceId) -> Self {
        Self(self.0.with_source_id(source_id))
    }
}

impl TokenSource for JwtBearer {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        // RFC 7523 §2.1: "The value of the "assertion" parameter MUST contain a single JWT."
        self.0.fetch(request, str::to_owned).await
    }

    fn source_id(&self) -> Option<SourceId> {
        self.0.source_id()
    }

    fn credential_changed(&self, since: &TokenError) -> bool {
        self.0.endpoint.credential_changed(since)
    }
}
