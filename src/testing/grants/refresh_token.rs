//! Grants a token for a refresh token (RFC 6749, section 6).

use super::super::form::Form;
use super::super::issued_tokens::Authorization;
use super::super::oauth_error::OAuthError;
use super::{Grant, GrantContext};

pub(super) const NAME: &str = "refresh_token";

pub(super) fn grant(
    mut authorization: Authorization,
    form: &Form,
    context: &mut GrantContext<'_>,
) -> Result<Grant, OAuthError> {
    let token = form.required("refresh_token")?;
    let consented = context
        .refresh_tokens
        .redeem(token, &authorization.client)?;
    // "The requested scope MUST NOT include any scope not originally granted by the resource owner, and if omitted is treated
    // as equal to the scope originally granted by the resource owner."
    if authorization.scopes.is_empty() {
        authorization.scopes.clone_from(&consented.scopes);
    }
    if authorization
        .scopes
        .iter()
        .any(|scope| !consented.scopes.contains(scope))
    {
        return Err(OAuthError::invalid_scope(
            "the scope exceeds the one originally granted",
        ));
    }
    authorization.subject = consented.subject;
    Ok(Grant {
        authorization,
        used_refresh_token: Some(token.to_owned()),
        for_user: true,
        ..Grant::default()
    })
}
