//! A token for a SAML 2.0 assertion: RFC 7522, section 2.1.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::form::Form;
use super::super::refusal::Refusal;
use super::super::token_store::Asked;
use super::{Granted, Known};

pub(super) const NAME: &str = "urn:ietf:params:oauth:grant-type:saml2-bearer";

pub(super) fn granted(
    mut asked: Asked,
    form: &Form,
    known: &Known<'_>,
) -> Result<Granted, Refusal> {
    let xml = URL_SAFE_NO_PAD.decode(form.required("assertion")?).ok();
    let speaks_for = xml
        .and_then(|xml| String::from_utf8(xml).ok())
        .and_then(|xml| known.assertions.get(&xml));
    let Some(subject) = speaks_for else {
        return Err(Refusal::invalid_grant("the assertion is not believed"));
    };
    asked.subject = Some(subject.clone());
    Ok(Granted {
        asked,
        ..Granted::default()
    })
}
