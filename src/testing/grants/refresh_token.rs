//! A token for a refresh token: RFC 6749, section 6.

use super::super::form::Form;
use super::super::refusal::Refusal;
use super::super::token_store::Asked;
use super::{Granted, Known};

pub(super) const NAME: &str = "refresh_token";

pub(super) fn granted(
    mut asked: Asked,
    form: &Form,
    known: &mut Known<'_>,
) -> Result<Granted, Refusal> {
    let token = form.required("refresh_token")?;
    let agreed = known.families.redeem(token, &asked.client)?;
    // "The requested scope MUST NOT include any scope not originally granted by the resource owner, and if omitted is treated
    // as equal to the scope originally granted by the resource owner."
    if asked.scopes.is_empty() {
        asked.scopes.clone_from(&agreed.scopes);
    }
    if asked
        .scopes
        .iter()
        .any(|scope| !agreed.scopes.contains(scope))
    {
        return Err(Refusal::invalid_scope(
            "the scope is beyond what was agreed to",
        ));
    }
    asked.subject = agreed.subject;
    Ok(Granted {
        asked,
        refreshed: Some(token.to_owned()),
        for_a_person: true,
        ..Granted::default()
    })
}
