//! From the `grant_type` to the grant.

use super::super::form::Form;
use super::super::refusal::Refusal;
use super::super::token_store::Asked;
use super::client_credentials;

pub(in super::super) const NAMES: [&str; 1] = [client_credentials::NAME];

/// What this request of an authenticated client asks for.
pub(in super::super) fn asked(client: String, form: &Form) -> Result<Asked, Refusal> {
    match form.required("grant_type")? {
        client_credentials::NAME => client_credentials::asked(client, form),
        _ => Err(Refusal::unsupported_grant_type()),
    }
}
