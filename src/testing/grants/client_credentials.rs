//! A token for the client itself: RFC 6749, section 4.4.

use super::super::form::Form;
use super::super::refusal::Refusal;
use super::super::token_store::Asked;

pub(super) const NAME: &str = "client_credentials";

pub(super) fn asked(client: String, form: &Form) -> Result<Asked, Refusal> {
    Ok(Asked {
        client,
        scopes: form.scopes()?,
        resources: form.all("resource"),
        audiences: form.all("audience"),
        ..Asked::default()
    })
}
