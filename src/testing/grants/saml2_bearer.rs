//! Grants a token for a SAML 2.0 assertion (RFC 7522, section 2.1).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::form::Form;
use super::super::issued_tokens::Authorization;
use super::super::oauth_error::OAuthError;
use super::{Grant, GrantContext};

pub(super) const NAME: &str = "urn:ietf:params:oauth:grant-type:saml2-bearer";

pub(super) fn grant(
    mut authorization: Authorization,
    form: &Form,
    context: &GrantContext<'_>,
) -> Result<Grant, OAuthError> {
    let xml = URL_SAFE_NO_PAD.decode(form.required("assertion")?).ok();
    let subject = xml
        .and_then(|xml| String::from_utf8(xml).ok())
        .and_then(|xml| context.trusted_assertions.get(&xml));
    let Some(subject) = subject else {
        return Err(OAuthError::invalid_grant("the assertion is invalid"));
    };
    authorization.subject = Some(subject.clone());
    Ok(Grant {
        authorization,
        ..Grant::default()
    })
}
