//! This module encodes client id and secret for the header `Authorization: Basic`.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::{error::TokenError, secret::wiped};

/// Returns the value of the header.
pub(super) fn basic_header(id: &str, secret: &str) -> Result<HeaderValue, TokenError> {
    let bytes = Zeroizing::new([b"Basic ", basic_credentials(id, secret).as_slice()].concat());
    let mut value = HeaderValue::from_maybe_shared(wiped(bytes)).map_err(|_| {
        TokenError::configuration("the client id and secret are not valid in a header")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns id and secret as they follow `Basic` in the header.
pub(super) fn basic_credentials(id: &str, secret: &str) -> Zeroizing<Vec<u8>> {
    // RFC 6749 §2.3.1: "The client identifier is encoded using the "application/x-www-form-urlencoded" encoding
    // algorithm per Appendix B, and the encoded value is used as the username; the client password is encoded
    // using the same algorithm and used as the password."
    let (id, secret) = (percent_encoded(id), percent_encoded(secret));
    let pair = Zeroizing::new([id.as_bytes(), b":", secret.as_bytes()].concat());
    // Encoded into a buffer that is wiped: the encoder's own conversion to a string leaves a copy on the stack.
    let room = base64::encoded_len(pair.len(), true).unwrap_or(0);
    let mut encoded = Zeroizing::new(vec![0; room]);
    let length = STANDARD.encode_slice(&pair, &mut encoded).unwrap_or(0);
    encoded.truncate(length);
    encoded
}

/// Form-encodes, with a space as `%20` instead of `+`. Form decoders accept both; decoders that only handle percent-encoding
/// require `%20`.
pub(super) fn percent_encoded(text: &str) -> Zeroizing<String> {
    // Allocated once, so that no copy remains in freed memory.
    let mut encoded = Zeroizing::new(String::with_capacity(3 * text.len()));
    for part in form_urlencoded::byte_serialize(text.as_bytes()) {
        // A plus sign of the text has been encoded as %2B.
        encoded.push_str(if part == "+" { "%20" } else { part });
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(id: &str, secret: &str) -> String {
        let value = basic_header(id, secret).unwrap();
        assert!(value.is_sensitive());
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
    }

    #[test]
    fn colon_in_a_secret_is_encoded() {
        assert_eq!(basic("a:b", "c:d"), "a%3Ab:c%3Ad");
    }

    #[test]
    fn special_characters_of_a_secret_are_encoded() {
        assert_eq!(basic("id", " :%+/é"), "id:%20%3A%25%2B%2F%C3%A9");
    }

    #[test]
    fn unreserved_characters_are_not_encoded() {
        assert_eq!(basic("Az09-._*", "x"), "Az09-._*:x");
    }

    #[test]
    fn debug_output_of_the_header_hides_the_secret() {
        let value = basic_header("i", "s").unwrap();
        assert_eq!(format!("{value:?}"), "Sensitive");
    }
}
