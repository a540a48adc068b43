//! Grants a token for an assertion of a service account (RFC 7523, section 2.1), or for the token of the calling user (Microsoft's
//! on-behalf-of flow).

use super::super::form::Form;
use super::super::issued_tokens::Authorization;
use super::super::oauth_error::OAuthError;
use super::{Grant, GrantContext};

pub(super) const NAME: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

pub(super) fn grant(
    mut authorization: Authorization,
    form: &Form,
    context: &GrantContext<'_>,
) -> Result<Grant, OAuthError> {
    let assertion = form.required("assertion")?;
    let for_user = match form.one("requested_token_use")? {
        None => false,
        Some("on_behalf_of") => true,
        Some(_) => return Err(OAuthError::invalid_request("unknown requested_token_use")),
    };
    let subject = if for_user {
        context
            .token(assertion)
            .and_then(|issued| issued.authorization.subject.clone())
    } else {
        context.trusted_assertions.get(assertion).cloned()
    };
    // RFC 7521, section 4.1.1: "If the assertion is not valid or has expired, […] the value of the "error" parameter MUST be
    // the "invalid_grant" error code."
    authorization.subject =
        Some(subject.ok_or(OAuthError::invalid_grant("the assertion is invalid"))?);
    Ok(Grant {
        authorization,
        for_user,
        ..Grant::default()
    })
}
