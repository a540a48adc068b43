//! The body of an answer, which holds a token: bounded while it is read, and wiped when it is dropped.

use crate::error::{ErrorKind, TokenError};

/// A token response has a few KiB.
const MAX_BODY: u64 = 1 << 20;

/// Refuses a body of this length if it is too long.
pub(super) fn check_length(length: u64) -> Result<(), TokenError> {
    if length > MAX_BODY {
        return Err(TokenError::new(
            ErrorKind::Malformed,
            "the answer is beyond 1 MiB: check that the token URL is the token endpoint's",
        ));
    }
    Ok(())
}

#[cfg(any(feature = "reqwest", feature = "hyper"))]
pub(super) use collector::BodyCollector;

#[cfg(any(feature = "reqwest", feature = "hyper"))]
mod collector {
    use bytes::Bytes;
    use zeroize::Zeroizing;

    use super::check_length;
    use crate::{error::TokenError, secret::wiped};

    /// Collects a body piece by piece.
    pub(in super::super) struct BodyCollector(Zeroizing<Vec<u8>>);

    impl BodyCollector {
        /// For a body that says its length, or doesn't.
        pub(in super::super) fn new(length: Option<u64>) -> Result<Self, TokenError> {
            const FIRST: u64 = 4 << 10;
            let length = length.unwrap_or(FIRST);
            check_length(length)?;
            Ok(Self(room(usize::try_from(length).unwrap_or(0))))
        }

        pub(in super::super) fn push(&mut self, piece: &[u8]) -> Result<(), TokenError> {
            let length = self.0.len() + piece.len();
            check_length(length as u64)?;
            if length > self.0.capacity() {
                // A vector that grows by itself leaves its old memory as it is.
                let mut longer = room(length.max(2 * self.0.capacity()));
                longer.extend_from_slice(&self.0);
                self.0 = longer;
            }
            self.0.extend_from_slice(piece);
            Ok(())
        }

        pub(in super::super) fn finish(self) -> Bytes {
            wiped(self.0)
        }
    }

    fn room(length: usize) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(Vec::with_capacity(length))
    }
}
