//! Client id and secret in the header `Authorization: Basic`, and the encoding that they want.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::{error::TokenError, secret::wiped};

/// A client that shows its secret.
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
            TokenError::configuration("the client id and secret can't stand in a header")
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Id and secret as they stand behind `Basic`.
    pub(super) fn encoded(self) -> Zeroizing<String> {
        // RFC 6749 §2.3.1: "The client identifier is encoded using the "application/x-www-form-urlencoded" encoding
        // algorithm per Appendix B, and the encoded value is used as the username; the client password is encoded
        // using the same algorithm and used as the password."
        let room = 3 * (self.id.len() + self.secret.len()) + 1;
        let mut pair = Zeroizing::new(String::with_capacity(room));
        percent_encode(self.id, &mut pair);
        pair.push(':');
        percent_encode(self.secret, &mut pair);
        // Into memory of our own: the encoder's way to a string leaves a copy on the stack.
        let room = base64::encoded_len(pair.len(), true).unwrap_or(0);
        let mut bytes = Zeroizing::new(vec![0; room]);
        let length = STANDARD.encode_slice(pair.as_bytes(), &mut bytes);
        let written = bytes.get(..length.unwrap_or(0)).unwrap_or_default();
        Zeroizing::new(str::from_utf8(written).unwrap_or_default().to_owned())
    }
}

/// Form-encodes, with a blank as `%20`: both ways are decoded alike by form decoders, and only this one by those who
/// decode percents alone.
pub(super) fn percent_encode(text: &str, out: &mut String) {
    for piece in form_urlencoded::byte_serialize(text.as_bytes()) {
        // A plus of the text itself has become %2B.
        out.push_str(if piece == "+" { "%20" } else { piece });
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
    fn a_secret_with_a_colon_is_encoded() {
        assert_eq!(basic("a:b", "c:d"), "a%3Ab:c%3Ad");
    }

    #[test]
    fn special_characters_of_a_secret_are_encoded() {
        assert_eq!(basic("id", " :%+/é"), "id:%20%3A%25%2B%2F%C3%A9");
    }

    #[test]
    fn plain_characters_stay_as_they_are() {
        assert_eq!(basic("Az09-._*", "x"), "Az09-._*:x");
    }

    #[test]
    fn the_header_has_no_secret_in_its_debug() {
        let value = BasicCredentials {
            id: "i",
            secret: "s",
        }
        .header_value();
        assert_eq!(format!("{:?}", value.unwrap()), "Sensitive");
    }
}
