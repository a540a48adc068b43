//! A JWT as the grant (RFC 7523 §2.1): service accounts, and whoever else signs for themselves.

use std::fmt;

#[cfg(feature = "jwt")]
use super::signed::service_account;
use super::{
    assertion::{Assertion, AssertionRequest, SharedAssertion},
    endpoint::TokenEndpoint,
    exchange::{Grant, new_token},
};
#[cfg(feature = "jwt")]
use crate::transport::Transport;
use crate::{
    error::TokenError,
    source::{SourceId, TokenRequest, TokenSource},
    token::NewToken,
};

pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// Tokens for whomever a JWT speaks for: a service account that signs its own, or a workload with the token of its platform.
///
/// It differs from [`OnBehalfOf`](super::OnBehalfOf), whose assertion is the token of the user who called, and from
/// `client_assertion`, which proves who asks and not for whom.
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
///     // Sign the claims here: the audience, and whatever else the provider wants.
///     Ok(Secret::new(format!("signed for {}", request.audience())))
/// }));
/// let token = source.fetch(&TokenRequest::new(TokenSpec::scopes(["read"]))).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct JwtBearer {
    endpoint: TokenEndpoint,
    assertion: SharedAssertion,
    identity: Option<SourceId>,
}

impl JwtBearer {
    /// Presents these assertions at this endpoint.
    #[must_use]
    pub fn new(endpoint: TokenEndpoint, assertion: impl Assertion) -> Self {
        Self {
            endpoint,
            assertion: SharedAssertion::new(assertion),
            identity: None,
        }
    }

    /// A service account of Google's, by the JSON file that was downloaded when its key was made.
    ///
    /// # Errors
    /// It is no such file, or its key is none that can sign.
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

    /// Says who the tokens are for, in place of what the assertions say of themselves.
    #[must_use]
    pub fn with_source_id(mut self, identity: SourceId) -> Self {
        self.identity = Some(identity);
        self
    }
}

impl TokenSource for JwtBearer {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        let audience = self.endpoint.uri(request.spec()).await?.to_string();
        let wanted = AssertionRequest::new(audience, request.spec().clone());
        let assertion = self.assertion.make(&wanted).await?.expose()?;
        // RFC 7523 §2.1: "The value of the "assertion" parameter MUST contain a single JWT."
        let params = [("assertion", assertion.as_str())];
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

impl fmt::Debug for JwtBearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtBearer")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}
