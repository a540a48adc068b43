//! Encodes byte strings with their lengths in front, so that different sequences never have the same encoding.
//!
//! A length is a `u64` in big-endian order.

/// The size of the length that precedes each byte string.
#[cfg(feature = "store")]
pub(crate) const LENGTH_SIZE: usize = size_of::<u64>();

/// Appends `bytes` with their length in front.
pub(crate) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Removes the first byte string from `input` and returns it, or returns `None` if `input` is too short.
pub(crate) fn take<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_u64(input)?).ok()?;
    let (bytes, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(bytes)
}

/// Appends a number.
pub(crate) fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend(number.to_be_bytes());
}

/// Removes a number from the start of `input` and returns it, or returns `None` if `input` is too short.
pub(crate) fn take_u64(input: &mut &[u8]) -> Option<u64> {
    let (number, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn decoding_returns_the_encoded_byte_strings(strings: Vec<Vec<u8>>) {
            let mut encoded = Vec::new();
            for string in &strings {
                put(&mut encoded, string);
            }
            let mut rest = &*encoded;
            for string in &strings {
                assert_eq!(take(&mut rest), Some(&**string));
            }
            assert!(rest.is_empty());
        }

        #[test]
        fn truncated_input_is_not_decoded(string: Vec<u8>, cut in 1..1000_usize) {
            let mut encoded = Vec::new();
            put(&mut encoded, &string);
            encoded.truncate(encoded.len().saturating_sub(cut));
            assert_eq!(take(&mut &*encoded), None);
        }
    }
}
