//! Limits the length of response bodies.

use crate::error::{ErrorKind, TokenError};

/// Returns an error if a response body of this length is too long. A token response has a few KiB.
pub(super) fn check_length(length: usize) -> Result<(), TokenError> {
    const MAX_BODY: usize = 1 << 20;
    if length <= MAX_BODY {
        return Ok(());
    }
    Err(TokenError::new(
        ErrorKind::Malformed,
        "the response has more than 1 MiB: check that the token URL is that of the token endpoint",
    ))
}
