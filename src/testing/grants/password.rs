//! Grants a token for a user's name and password (RFC 6749, section 4.3).

use super::super::form::Form;
use super::super::issued_tokens::Authorization;
use super::super::oauth_error::OAuthError;
use super::{Grant, GrantContext};

pub(super) const NAME: &str = "password";

pub(super) fn grant(
    mut authorization: Authorization,
    form: &Form,
    context: &GrantContext<'_>,
) -> Result<Grant, OAuthError> {
    let (name, password) = (form.required("username")?, form.required("password")?);
    if context.users.get(name).is_none_or(|own| own != password) {
        return Err(OAuthError::invalid_grant("unknown user or wrong password"));
    }
    authorization.subject = Some(name.to_owned());
    Ok(Grant {
        authorization,
        for_user: true,
        ..Grant::default()
    })
}
