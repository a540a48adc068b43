//! Defines [`SourceId`], which must be equal for two processes to share tokens.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{secret::Secret, util::length_prefixed};

/// The identity of a source, which separates its tokens from those of other sources in a shared store.
///
/// It contains the provider, the client, the grant, and everything else that decides for whom a token is issued, encoded
/// with types and lengths. Secrets are contained as SHA-256 digests. Two identities are equal only if all their types, names
/// and values are, in the same order.
///
/// The tokens of a source without an identity are never shared.
///
/// ```
/// use tower_bearer::{Secret, source::SourceId};
///
/// let id = SourceId::new("vault")
///     .with("url", "https://vault.internal")
///     .with_secret("app_role", &Secret::new("hunter2"))
///     .unwrap();
/// assert_eq!(format!("{id:?}"), "SourceId(vault, url, app_role)");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SourceId(Box<[u8]>);

/// The types of records.
const KIND: u8 = 1;
const TEXT: u8 = 2;
const DIGEST: u8 = 3;

impl SourceId {
    /// Creates the identity of a source of this kind.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        Self(Box::default()).append(KIND, kind, b"")
    }

    /// Adds a value that is not secret.
    #[must_use]
    pub fn with(self, name: &str, value: &str) -> Self {
        self.append(TEXT, name, value.as_bytes())
    }

    /// Adds the digest of a secret.
    ///
    /// Returns `None` if the secret can't be read, so that the tokens are not shared.
    #[must_use]
    pub fn with_secret(self, name: &str, secret: &Secret) -> Option<Self> {
        let text = secret.expose().ok()?;
        Some(self.with_digest(name, text.as_str()))
    }

    /// Adds the digest of a value that may be secret.
    pub(crate) fn with_digest(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.append(DIGEST, name, &Sha256::digest(value))
    }

    /// Adds the identity of another source that this source depends on.
    ///
    /// ```
    /// use tower_bearer::source::SourceId;
    ///
    /// let actor = SourceId::new("vault");
    /// let id = SourceId::new("exchange").with_part("actor", &actor);
    /// assert_ne!(id, SourceId::new("exchange"));
    /// ```
    #[must_use]
    pub fn with_part(self, name: &str, part: &Self) -> Self {
        self.with_digest(name, &part.0)
    }

    /// Returns the encoded identity.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn append(self, record: u8, name: &str, value: &[u8]) -> Self {
        let mut bytes = self.0.into_vec();
        bytes.push(record);
        length_prefixed::put(&mut bytes, name.as_bytes());
        length_prefixed::put(&mut bytes, value);
        Self(bytes.into_boxed_slice())
    }
}

/// Values are left out: they may name a person, and the secret behind a digest might be guessed.
impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.as_bytes();
        let names = std::iter::from_fn(|| {
            rest = rest.get(1..)?;
            let name = length_prefixed::take(&mut rest)?;
            length_prefixed::take(&mut rest)?;
            str::from_utf8(name).ok()
        });
        let names: Vec<_> = names.collect();
        write!(f, "SourceId({})", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_mistaken_for_another_field() {
        let ids = [
            SourceId::new(""),
            SourceId::new("a"),
            SourceId::new("a").with("b", ""),
            SourceId::new("a").with("", "b"),
            SourceId::new("ab"),
            SourceId::new("a").with("b", "c"),
            SourceId::new("a").with("bc", ""),
            SourceId::new("a").with("b", "c").with("d", "e"),
            SourceId::new("a").with("d", "e").with("b", "c"),
            SourceId::new("a")
                .with_secret("b", &Secret::new("c"))
                .unwrap(),
            SourceId::new("a").with_part("b", &SourceId::new("c")),
        ];
        for (i, one) in ids.iter().enumerate() {
            for (j, other) in ids.iter().enumerate() {
                assert_eq!(one == other, i == j, "{one:?} and {other:?}");
            }
        }
    }

    /// Processes of different versions share a store.
    #[test]
    fn encoding_is_stable() {
        let id = SourceId::new("ab").with("c", "d");
        let kind = b"\x01\0\0\0\0\0\0\0\x02ab\0\0\0\0\0\0\0\0";
        let text = b"\x02\0\0\0\0\0\0\0\x01c\0\0\0\0\0\0\0\x01d";
        assert_eq!(id.as_bytes(), [&kind[..], text].concat());
    }

    #[test]
    fn secret_is_stored_as_a_digest() {
        let id = SourceId::new("a").with_secret("b", &Secret::new("hunter2"));
        let id = id.unwrap();
        let bytes = id.as_bytes();
        assert!(bytes.ends_with(&Sha256::digest("hunter2")));
        assert!(!bytes.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(id, SourceId::new("a").with_digest("b", "hunter2"));
    }

    #[test]
    fn unreadable_secret_prevents_sharing() {
        let path = std::env::temp_dir().join(format!("tower-bearer-id-{}", std::process::id()));
        std::fs::write(&path, "x").unwrap();
        let secret = Secret::from_file(&path).unwrap();
        assert!(SourceId::new("a").with_secret("b", &secret).is_some());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(SourceId::new("a").with_secret("b", &secret), None);
    }
}
