//! A token for an assertion: of a service account (RFC 7523, section 2.1), or of the user who called (Microsoft's on behalf of).

use super::super::form::Form;
use super::super::refusal::Refusal;
use super::super::token_store::Asked;
use super::{Granted, Known};

pub(super) const NAME: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

pub(super) fn granted(
    mut asked: Asked,
    form: &Form,
    known: &Known<'_>,
) -> Result<Granted, Refusal> {
    let assertion = form.required("assertion")?;
    let for_a_person = match form.one("requested_token_use")? {
        None => false,
        Some("on_behalf_of") => true,
        Some(_) => return Err(Refusal::invalid_request("unknown requested_token_use")),
    };
    let speaks_for = if for_a_person {
        known
            .token(assertion)
            .and_then(|issued| issued.asked.subject.clone())
    } else {
        known.assertions.get(assertion).cloned()
    };
    // RFC 7521, section 4.1.1: "If the assertion is not valid or has expired, […] the value of the "error" parameter MUST be
    // the "invalid_grant" error code."
    asked.subject =
        Some(speaks_for.ok_or(Refusal::invalid_grant("the assertion is not believed"))?);
    Ok(Granted {
        asked,
        for_a_person,
        ..Granted::default()
    })
}
