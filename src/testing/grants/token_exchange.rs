//! Grants a token in exchange for another (RFC 8693).

use super::super::form::Form;
use super::super::issued_tokens::Authorization;
use super::super::oauth_error::OAuthError;
use super::{Grant, GrantContext};

pub(super) const NAME: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

pub(super) fn grant(
    mut authorization: Authorization,
    form: &Form,
    context: &GrantContext<'_>,
) -> Result<Grant, OAuthError> {
    form.required("subject_token_type")?;
    authorization.subject = Some(subject_of(form.required("subject_token")?, context)?);
    if let Some(token) = form.one("actor_token")? {
        form.required("actor_token_type")?;
        authorization.actor = Some(subject_of(token, context)?);
    } else if form.one("actor_token_type")?.is_some() {
        // "This parameter is REQUIRED when the "actor_token" parameter is present in the request but MUST NOT be included
        // otherwise."
        return Err(OAuthError::invalid_request(
            "actor_token_type requires actor_token",
        ));
    }
    let requested = form.one("requested_token_type")?;
    Ok(Grant {
        authorization,
        issued_token_type: Some(requested.unwrap_or(ACCESS_TOKEN).to_owned()),
        ..Grant::default()
    })
}

/// Returns the subject of a token, otherwise its client.
fn subject_of(token: &str, context: &GrantContext<'_>) -> Result<String, OAuthError> {
    if let Some(subject) = context.trusted_assertions.get(token) {
        return Ok(subject.clone());
    }
    let Some(issued) = context.token(token) else {
        // Section 2.2.2: "If either the "subject_token" or "actor_token" are invalid for any reason, […] the value of the
        // "error" parameter MUST be the "invalid_request" error code."
        return Err(OAuthError::invalid_request(
            "the subject or actor token is invalid",
        ));
    };
    let subject = issued.authorization.subject.as_ref();
    Ok(subject.unwrap_or(&issued.authorization.client).clone())
}
