//! [`Fingerprint`]: tells whether something secret is still the same, and shows nothing of it.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::LazyLock,
};

use sha2::{Digest, Sha256};

/// A digest of a secret, of use in this process alone: its key is made anew in each, so that a mark that leaks is found
/// in no table of digests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of(secret: &[u8]) -> Self {
        static KEY: LazyLock<[u64; 2]> = LazyLock::new(|| [(); 2].map(|()| random()));
        let mut digest = Sha256::new();
        for word in *KEY {
            digest.update(word.to_ne_bytes());
        }
        digest.update(secret);
        Self(digest.finalize().into())
    }

    /// The mark of both together.
    pub(crate) fn and(self, other: Self) -> Self {
        let mut both = [0; 64];
        let (first, second) = both.split_at_mut(32);
        first.copy_from_slice(&self.0);
        second.copy_from_slice(&other.0);
        Self::of(&both)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(_)")
    }
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_has_the_same_mark_and_nothing_else_has() {
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
