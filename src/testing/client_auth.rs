//! Who asks: `client_secret_basic` and `client_secret_post`.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap};

use super::form::Form;
use super::refusal::Refusal;

/// How a client authenticated at the token endpoint, or tried to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthMethod {
    /// `client_secret_basic`: an `Authorization` header.
    Basic,
    /// `client_secret_post`: a `client_secret` in the form.
    Post,
    /// Neither.
    None,
}

impl AuthMethod {
    pub(super) fn of(headers: &HeaderMap, form: &Form) -> Self {
        if headers.contains_key(AUTHORIZATION) {
            return Self::Basic;
        }
        match form.all("client_secret").is_empty() {
            true => Self::None,
            false => Self::Post,
        }
    }
}

/// The client's id, if it is one of `clients` and knows its secret.
pub(super) fn authenticate(
    headers: &HeaderMap,
    form: &Form,
    clients: &HashMap<String, String>,
) -> Result<String, Refusal> {
    let tried_header = headers.contains_key(AUTHORIZATION);
    let refused = Refusal::invalid_client(tried_header);
    let named = form.one("client_id")?;
    let posted = form.one("client_secret")?;
    let (id, secret) = if tried_header {
        // RFC 6749, section 2.3: "The client MUST NOT use more than one authentication method in each request."
        if posted.is_some() || headers.get_all(AUTHORIZATION).iter().count() > 1 {
            return Err(Refusal::invalid_request(
                "more than one client authentication",
            ));
        }
        let (id, secret) = basic(headers).ok_or(refused)?;
        if named.is_some_and(|named| named != id) {
            return Err(Refusal::invalid_request(
                "the form names another client than the header",
            ));
        }
        (id, secret)
    } else {
        (
            named.ok_or(refused)?.to_owned(),
            posted.ok_or(refused)?.to_owned(),
        )
    };
    match clients.get(&id) {
        Some(known) if *known == secret => Ok(id),
        _ => Err(refused),
    }
}

/// RFC 6749, section 2.3.1: "The client identifier is encoded using the "application/x-www-form-urlencoded" encoding algorithm
/// [...] and the encoded value is used as the username; the client password is encoded using the same algorithm and used as the
/// password."
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (id, secret) = credentials.split_once(':')?;
    Some((form_decoded(id)?, form_decoded(secret)?))
}

fn form_decoded(encoded: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn hex(digit: u8) -> Option<u8> {
    u8::try_from(char::from(digit).to_digit(16)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a b:c%d+e/é";

    #[test]
    fn both_spellings_of_a_blank_are_the_same_secret() {
        for encoded in ["a+b%3Ac%25d%2Be%2F%C3%A9", "a%20b%3ac%25d%2be/%c3%a9"] {
            assert_eq!(
                try_basic(&format!("us%3Aer:{encoded}")),
                Ok("us:er".to_owned()),
                "{encoded}"
            );
        }
    }

    #[test]
    fn secret_that_was_not_encoded_or_badly_so_is_refused() {
        for wrong in [SECRET, "a%2", "a%zz", "%ff", ""] {
            assert_eq!(
                try_basic(&format!("us%3Aer:{wrong}")),
                Err(Refusal::invalid_client(true)),
                "{wrong}"
            );
        }
        assert_eq!(try_basic("no colon"), Err(Refusal::invalid_client(true)));
    }

    #[test]
    fn form_may_name_the_client_again_but_not_authenticate_it_again() {
        let headers = basic_header("us%3Aer:a+b%3Ac%25d%2Be%2F%C3%A9");
        let ask = |form: &str| authenticate(&headers, &Form::parse(form.as_bytes()), &clients());
        assert!(ask("client_id=us:er").is_ok());
        assert!(
            matches!(ask("client_id=other"), Err(refusal) if refusal != Refusal::invalid_client(true))
        );
        assert!(
            matches!(ask("client_secret=x"), Err(refusal) if refusal != Refusal::invalid_client(true))
        );
    }

    #[test]
    fn client_without_a_secret_is_refused_without_a_challenge() {
        let refused = authenticate(
            &HeaderMap::new(),
            &Form::parse(b"client_id=us:er"),
            &clients(),
        );
        assert_eq!(refused, Err(Refusal::invalid_client(false)));
    }

    fn try_basic(credentials: &str) -> Result<String, Refusal> {
        authenticate(&basic_header(credentials), &Form::default(), &clients())
    }

    fn basic_header(credentials: &str) -> HeaderMap {
        let value = format!("basic {}", STANDARD.encode(credentials));
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    fn clients() -> HashMap<String, String> {
        HashMap::from([("us:er".to_owned(), SECRET.to_owned())])
    }
}
