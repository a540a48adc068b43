//! This module encodes client id and secret for the header `Authorization: Basic`.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::{error::TokenError, secret::wiped};

/// A client id and its secret.
#[derive(Clone, Copy)]
pub(super) struct BasicCredentials<'a> {
    pub(super) id: &'a str,
    pub(super) secret: &'a str,
}

impl BasicCredentials<'_> {
    pub(super) fn header_value(self) -> Result<HeaderValue, TokenError> {
        const SCHEME: &str = "Basic ";
        let encoded = self.encoded();
        let mut bytes = Zeroizing::new(Vec::with_capacity(SCHEME.len() + encoded.len()));
        bytes.extend_from_slice(SCHEME.as_bytes());
        bytes.extend_from_slice(encoded.as_bytes());
        let mut value = HeaderValue::from_maybe_shared(wiped(bytes)).map_err(|_| {
            TokenError::configuration("the client id and secret are not valid in a header")
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Returns id and secret as they follow `Basic` in the header.
    pub(super) fn encoded(self) -> Zeroizing<String> {
        // RFC 6749 §2.3.1: "The client identifier is encoded using the "application/x-www-form-urlencoded" encoding
        // algorithm per Appendix B, and the encoded value is used as the username; the client password is encoded
        // using the same algorithm and used as the password."
        let room = 3 * (self.id.len() + self.secret.len()) + 1;
        let mut pair = Zeroizing::new(String::with_capacity(room));
        percent_encode(self.id, &mut pair);
        pair.push(':');
        percent_encode(self.secret, &mut pair);
        // Encoded into a buffer that is wiped: the encoder's own conversion to a string leaves a copy on the stack.
        let room = base64::encoded_len(pair.len(), true).unwrap_or(0);
        let mut bytes = Zeroizing::new(vec![0; room]);
        let length = STANDARD.encode_slice(pair.as_bytes(), &mut bytes);
        let written = bytes.get(..length.unwrap_or(0)).unwrap_or_default();
        Zeroizing::new(str::from_utf8(written).unwrap_or_default().to_owned())
    }
}

/// Form-encodes, with a space as `%20` instead of `+`. Form decoders accept both; decoders that only handle percent-encoding
/// require `%20`.
pub(super) fn percent_encode(text: &str, out: &mut String) {
    for part in form_urlencoded::byte_serialize(text.as_bytes()) {
        // A plus sign of the text has been encoded as %2B.
        out.push_str(if part == "+" { "%20" } else { part });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(id: &str, secret: &str) -> String {
        let value = BasicCredentials { id, secret }.header_value().unwrap();
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
        let value = BasicCredentials {
            id: "i",
            secret: "s",
        }
        .header_value();
        assert_eq!(format!("{:?}", value.unwrap()), "Sensitive");
    }
}
