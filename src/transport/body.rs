//! This module limits the size of a response body while it is read, and wipes the body when it is dropped, because it contains a
//! token.

use crate::error::{ErrorKind, TokenError};

/// The size limit in bytes. A token response has a few KiB.
const MAX_BODY: u64 = 1 << 20;

/// Returns an error if a body of this length is too long.
pub(super) fn check_length(length: u64) -> Result<(), TokenError> {
    if length > MAX_BODY {
        return Err(TokenError::new(
            ErrorKind::Malformed,
            "the response has more than 1 MiB: check that the token URL is that of the token endpoint",
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

    /// Collects a body chunk by chunk.
    pub(in super::super) struct BodyCollector(Zeroizing<Vec<u8>>);

    impl BodyCollector {
        /// Creates a collector for a body of this length, if it is known.
        pub(in super::super) fn new(length: Option<u64>) -> Result<Self, TokenError> {
            const FIRST: u64 = 4 << 10;
            let length = length.unwrap_or(FIRST);
            check_length(length)?;
            Ok(Self(with_capacity(usize::try_from(length).unwrap_or(0))))
        }

        pub(in super::super) fn push(&mut self, chunk: &[u8]) -> Result<(), TokenError> {
            let length = self.0.len() + chunk.len();
            check_length(length as u64)?;
            if length > self.0.capacity() {
                // A vector that grows by itself does not wipe the memory that it frees.
                let mut larger = with_capacity(length.max(2 * self.0.capacity()));
                larger.extend_from_slice(&self.0);
                self.0 = larger;
            }
            self.0.extend_from_slice(chunk);
            Ok(())
        }

        pub(in super::super) fn finish(self) -> Bytes {
            wiped(self.0)
        }
    }

    fn with_capacity(capacity: usize) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(Vec::with_capacity(capacity))
    }
}
