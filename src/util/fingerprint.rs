//! This module implements [`Fingerprint`], which detects whether a secret has changed without storing it.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::LazyLock,
};

use sha2::{Digest, Sha256};

/// A keyed digest of a secret. The key is random in each process, so a leaked fingerprint can't be looked up in a table of digests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Computes the fingerprint of a secret.
    pub(crate) fn of(secret: &[u8]) -> Self {
        static KEY: LazyLock<[u64; 2]> =
            LazyLock::new(|| [(); 2].map(|()| RandomState::new().build_hasher().finish()));
        let mut digest = Sha256::new();
        for word in *KEY {
            digest.update(word.to_ne_bytes());
        }
        digest.update(secret);
        Self(digest.finalize().into())
    }

    /// Combines two fingerprints.
    pub(crate) fn and(self, other: Self) -> Self {
        Self::of(&[self.0, other.0].concat())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(_)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_secrets_have_equal_fingerprints() {
        let fingerprint = Fingerprint::of(b"hunter2");
        assert_eq!(fingerprint, Fingerprint::of(b"hunter2"));
        assert_ne!(fingerprint, Fingerprint::of(b"hunter3"));
        assert_ne!(fingerprint, Fingerprint::of(b""));
        let other = Fingerprint::of(b"x");
        assert_ne!(fingerprint.and(other), other.and(fingerprint));
        assert_eq!(fingerprint.and(other), fingerprint.and(other));
        assert_eq!(format!("{fingerprint:?}"), "Fingerprint(_)");
    }
}
