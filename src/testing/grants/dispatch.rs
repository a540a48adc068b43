//! Dispatches a token request to the grant of its `grant_type`.

use std::collections::HashMap;

use tokio::time::Instant;

use super::super::form::Form;
use super::super::issued_tokens::{Authorization, IssuedToken, IssuedTokens};
use super::super::oauth_error::OAuthError;
use super::super::refresh_tokens::RefreshTokens;
use super::{
    client_credentials, jwt_bearer, password, refresh_token, saml2_bearer, token_exchange,
};

pub(in super::super) const NAMES: [&str; 6] = [
    client_credentials::NAME,
    jwt_bearer::NAME,
    password::NAME,
    refresh_token::NAME,
    saml2_bearer::NAME,
    token_exchange::NAME,
];

/// The server's state that grants depend on.
pub(in super::super) struct GrantContext<'a> {
    pub(in super::super) users: &'a HashMap<String, String>,
    /// The trusted assertions and their subjects.
    pub(in super::super) trusted_assertions: &'a HashMap<String, String>,
    pub(in super::super) tokens: &'a IssuedTokens,
    pub(in super::super) refresh_tokens: &'a mut RefreshTokens,
    pub(in super::super) now: Instant,
}

/// The result of a grant.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Grant {
    pub(in super::super) authorization: Authorization,
    /// The refresh token that the request contained.
    pub(in super::super) used_refresh_token: Option<String>,
    /// Whether the token is for a user, who can have a refresh token.
    pub(in super::super) for_user: bool,
    /// The issued token type of the response (RFC 8693).
    pub(in super::super) issued_token_type: Option<String>,
}

/// Evaluates the token request of an authenticated client.
pub(in super::super) fn evaluate(
    client: String,
    form: &Form,
    context: &mut GrantContext<'_>,
) -> Result<Grant, OAuthError> {
    let authorization = Authorization {
        client,
        scopes: form.scopes()?,
        resources: form.all("resource"),
        audiences: form.all("audience"),
        ..Authorization::default()
    };
    match form.required("grant_type")? {
        client_credentials::NAME => Ok(client_credentials::grant(authorization)),
        jwt_bearer::NAME => jwt_bearer::grant(authorization, form, context),
        password::NAME => password::grant(authorization, form, context),
        refresh_token::NAME => refresh_token::grant(authorization, form, context),
        saml2_bearer::NAME => saml2_bearer::grant(authorization, form, context),
        token_exchange::NAME => token_exchange::grant(authorization, form, context),
        _ => Err(OAuthError::unsupported_grant_type()),
    }
}

/// Returns `true` if the client need not authenticate.
///
/// RFC 7521, section 4.1: "authentication of the client is optional" if the grant is an assertion. It is required on behalf of a
/// user.
pub(in super::super) fn client_is_optional(form: &Form) -> bool {
    let one = |name| form.one(name).ok().flatten();
    let optional = [jwt_bearer::NAME, saml2_bearer::NAME, token_exchange::NAME];
    one("grant_type").is_some_and(|grant| optional.contains(&grant))
        && one("requested_token_use").is_none()
        && one("client_id").is_none()
}

impl GrantContext<'_> {
    /// Finds a token of this server that is currently valid.
    pub(super) fn token(&self, token: &str) -> Option<&IssuedToken> {
        self.tokens.find_usable(token, self.now)
    }
}
