//! A token for a user's name and password: RFC 6749, section 4.3.

use super::super::form::Form;
use super::super::refusal::Refusal;
use super::super::token_store::Asked;
use super::{Granted, Known};

pub(super) const NAME: &str = "password";

pub(super) fn granted(
    mut asked: Asked,
    form: &Form,
    known: &Known<'_>,
) -> Result<Granted, Refusal> {
    let (name, password) = (form.required("username")?, form.required("password")?);
    if known.users.get(name).is_none_or(|own| own != password) {
        return Err(Refusal::invalid_grant("unknown user or wrong password"));
    }
    asked.subject = Some(name.to_owned());
    Ok(Granted {
        asked,
        for_a_person: true,
        ..Granted::default()
    })
}
