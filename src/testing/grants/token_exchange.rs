//! One token for another: RFC 8693.

use super::super::form::Form;
use super::super::refusal::Refusal;
use super::super::token_store::Asked;
use super::{Granted, Known};

pub(super) const NAME: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

pub(super) fn granted(
    mut asked: Asked,
    form: &Form,
    known: &Known<'_>,
) -> Result<Granted, Refusal> {
    form.required("subject_token_type")?;
    asked.subject = Some(bearer_of(form.required("subject_token")?, known)?);
    if let Some(token) = form.one("actor_token")? {
        form.required("actor_token_type")?;
        asked.actor = Some(bearer_of(token, known)?);
    } else if form.one("actor_token_type")?.is_some() {
        // "This parameter is REQUIRED when the "actor_token" parameter is present in the request but MUST NOT be included
        // otherwise."
        return Err(Refusal::invalid_request("an actor's type without an actor"));
    }
    let requested = form.one("requested_token_type")?;
    Ok(Granted {
        asked,
        issued_token_type: Some(requested.unwrap_or(ACCESS_TOKEN).to_owned()),
        ..Granted::default()
    })
}

/// Whom a token stands for: the user, or else the client.
fn bearer_of(token: &str, known: &Known<'_>) -> Result<String, Refusal> {
    if let Some(subject) = known.assertions.get(token) {
        return Ok(subject.clone());
    }
    let Some(issued) = known.token(token) else {
        // Section 2.2.2: "If either the "subject_token" or "actor_token" are invalid for any reason, […] the value of the
        // "error" parameter MUST be the "invalid_request" error code."
        return Err(Refusal::invalid_request("the token is not believed"));
    };
    let subject = issued.asked.subject.as_ref();
    Ok(subject.unwrap_or(&issued.asked.client).clone())
}
