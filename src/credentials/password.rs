//! Implements the password grant (RFC 6749 §4.3).

use super::endpoint::TokenEndpoint;
use crate::{
    error::TokenError,
    secret::Secret,
    source::{SourceId, TokenRequest, TokenSource},
    token::NewToken,
};

/// Fetches tokens with the user name and password of a person or a device.
///
/// # Alternatives
/// RFC 9700 §2.4: "The resource owner password credentials grant MUST NOT be used." The program learns the password and can
/// do everything that the user can, there is no second factor and no consent, and providers are removing the grant. Use
/// [`ClientCredentials`](super::ClientCredentials) for a program, and [`RefreshToken`](super::RefreshToken) for a user who has
/// signed in elsewhere. This source is for old systems that support no other grant, and requires the feature `password`.
///
/// ```
/// use bytes::Bytes;
/// use tower_bearer::{
///     Secret, TokenSource, TokenSpec,
///     credentials::{ClientAuth, Password, TokenEndpoint},
///     source::TokenRequest,
///     transport::Transport,
/// };
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// # let provider = Transport::from_fn(async |_| Ok(http::Response::new(Bytes::from(r#"{"access_token":"abc"}"#))));
/// let endpoint = TokenEndpoint::new("https://old.example.com/token")
///     .with_client("orders", ClientAuth::basic("hunter2"))
///     .with_transport(provider);
/// let source = Password::new(endpoint, "robot", Secret::new("correct horse"));
/// let token = source.fetch(&TokenRequest::new(TokenSpec::scopes(["read"]))).await?;
/// # let _ = token;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Password {
    endpoint: TokenEndpoint,
    username: Secret,
    password: Secret,
}

impl Password {
    /// Creates a source that signs in at this endpoint with this user name and password.
    #[must_use]
    pub fn new(
        endpoint: TokenEndpoint,
        username: impl Into<String>,
        password: impl Into<Secret>,
    ) -> Self {
        Self {
            endpoint,
            username: Secret::new(username),
            password: password.into(),
        }
    }
}

impl TokenSource for Password {
    async fn fetch(&self, request: &TokenRequest) -> Result<NewToken, TokenError> {
        let (username, password) = (self.username.expose()?, self.password.expose()?);
        // RFC 6749 §4.3.2: "username REQUIRED. […] password REQUIRED."
        let params = [
            ("username", username.as_str()),
            ("password", password.as_str()),
        ];
        // A refresh token is dropped: the next token is requested with the password again.
        self.endpoint.fetch(request, "password", &params).await
    }

    fn source_id(&self) -> Option<SourceId> {
        let endpoint = self.endpoint.source_id("password")?;
        endpoint.with_secret("username", &self.username)
    }

    fn credential_changed(&self, since: &TokenError) -> bool {
        self.endpoint.credential_changed(since)
    }
}
