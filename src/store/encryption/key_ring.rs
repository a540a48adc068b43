//! Holds the keys of a store, and derives from them the keys that encrypt records and make names.

use std::{fmt, iter, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM, LessSafeKey, UnboundKey},
    error::Unspecified,
    hkdf, hmac,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT},
};
use zeroize::Zeroizing;

use crate::{error::TokenError, secret::Secret};

/// The keys of a store: the first one encrypts, and each of them can decrypt.
///
/// A key is 32 random bytes in base64, as made by `openssl rand -base64 32`. It can come from any kind of [`Secret`]; a key in
/// a file is read again for every use. All processes that share a store need the same key.
///
/// To replace a key without a cache miss:
/// 1. Deploy the new key as an older key everywhere.
/// 2. Make it the first key, and the previous one the older key.
/// 3. Remove the previous key once the tokens encrypted with it have expired.
///
/// ```
/// use tower_bearer::{Secret, store::KeyRing};
///
/// let new = Secret::new("0nF2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE=");
/// let old = Secret::new("QmfdFM4UlZXi2qBJ6gZLCWpq4S1Nd4B0jLl6X0KdQRc=");
/// let ring = KeyRing::new(new)?.with_older(old)?;
///
/// let error = KeyRing::new(Secret::new("hunter2")).unwrap_err();
/// assert!(error.to_string().contains("openssl rand -base64 32"));
/// assert!(!error.to_string().contains("hunter2"));
/// # Ok::<_, tower_bearer::TokenError>(())
/// ```
#[derive(Clone)]
pub struct KeyRing {
    first: Secret,
    older: Arc<[Secret]>,
}

impl KeyRing {
    /// Creates a ring with one key.
    ///
    /// # Errors
    /// Returns an error if the secret can't be read, or is not 32 random bytes in base64.
    pub fn new(key: Secret) -> Result<Self, TokenError> {
        Key::read(&key)?;
        Ok(Self {
            first: key,
            older: Arc::default(),
        })
    }

    /// Adds an older key, to find and decrypt the values that were stored with it.
    ///
    /// # Errors
    /// Returns an error if the secret can't be read, or is not 32 random bytes in base64.
    pub fn with_older(mut self, key: Secret) -> Result<Self, TokenError> {
        Key::read(&key)?;
        self.older = self.older.iter().cloned().chain([key]).collect();
        Ok(self)
    }

    /// Reads the key that encrypts.
    pub(crate) fn first(&self) -> Result<Key, TokenError> {
        Key::read(&self.first)
    }

    /// Reads all keys, beginning with the one that encrypts.
    pub(crate) fn keys(&self) -> Result<Vec<Key>, TokenError> {
        let keys = iter::once(&self.first).chain(&*self.older);
        keys.map(Key::read).collect()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("keys", &(1 + self.older.len()))
            .finish_non_exhaustive()
    }
}

/// The size of a key in bytes.
const LENGTH: usize = 32;

/// A key in plain text, which is wiped when it is dropped. It is only used to derive other keys, one for each purpose.
pub(crate) struct Key(Zeroizing<[u8; LENGTH]>);

/// Identifies a key within a ring.
pub(crate) type KeyId = [u8; 8];

/// The random input for the key of one record.
pub(crate) type Salt = [u8; 32];

impl Key {
    fn read(secret: &Secret) -> Result<Self, TokenError> {
        let text = secret.expose()?;
        let mut bytes = Zeroizing::new([0; LENGTH]);
        // Either alphabet, with or without padding.
        let alphabet = if text.as_str().contains(['-', '_']) {
            &URL_SAFE_PAD_INDIFFERENT
        } else {
            &STANDARD_PAD_INDIFFERENT
        };
        let Ok(LENGTH) = alphabet.decode_slice(text.as_str(), &mut *bytes) else {
            return Err(TokenError::configuration(
                "a key of the store must be 32 bytes in base64: make one with `openssl rand -base64 32`",
            ));
        };
        if bytes.windows(2).all(|pair| pair.first() == pair.last()) {
            return Err(TokenError::configuration(
                "a key of the store must be random: make one with `openssl rand -base64 32`",
            ));
        }
        Ok(Self(bytes))
    }

    /// Derives the id, which does not reveal the key.
    pub(crate) fn id(&self) -> Result<KeyId, Unspecified> {
        let id = self.derive(&[], b"tower-bearer store v1: id")?;
        id.first_chunk().copied().ok_or(Unspecified)
    }

    /// Derives the key for names.
    pub(crate) fn for_names(&self) -> Result<hmac::Key, Unspecified> {
        let key = self.derive(&[], b"tower-bearer store v1: names")?;
        Ok(hmac::Key::new(hmac::HMAC_SHA256, &*key))
    }

    /// Derives the key that encrypts the record with this salt.
    pub(crate) fn for_record(&self, salt: &Salt) -> Result<LessSafeKey, Unspecified> {
        let key = self.derive(salt, b"tower-bearer store v1: encrypt")?;
        UnboundKey::new(&AES_256_GCM, &*key).map(LessSafeKey::new)
    }

    /// Derives a key with HKDF (RFC 5869). `info` names its purpose.
    fn derive(&self, salt: &[u8], info: &[u8]) -> Result<Zeroizing<[u8; LENGTH]>, Unspecified> {
        let mut derived = Zeroizing::new([0; LENGTH]);
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&*self.0);
        prk.expand(&[info], hmac::HMAC_SHA256)?
            .fill(&mut *derived)?;
        Ok(derived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDARD: &str = "+/F2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE=";

    fn id(key: &str) -> KeyId {
        let ring = KeyRing::new(Secret::new(key)).unwrap();
        ring.first().unwrap().id().unwrap()
    }

    #[test]
    fn key_may_use_either_base64_alphabet_and_omit_padding() {
        let url_safe = STANDARD.replace('+', "-").replace('/', "_");
        for text in [STANDARD, &url_safe, &STANDARD[..43], &url_safe[..43]] {
            assert_eq!(id(text), id(STANDARD));
        }
    }

    #[test]
    fn invalid_key_is_refused_and_not_shown() {
        let long = format!("{STANDARD}AAAA");
        let zeros = "A".repeat(43);
        for text in [
            "",
            "hunter2",
            &STANDARD[1..],
            &STANDARD[..42],
            &long,
            &zeros,
        ] {
            let error = KeyRing::new(Secret::new(text)).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("openssl rand -base64 32"), "{shown}");
            assert!(text.is_empty() || !shown.contains(text), "{shown}");
            let ring = KeyRing::new(Secret::new(STANDARD)).unwrap();
            assert!(ring.with_older(Secret::new(text)).is_err());
        }
    }

    #[test]
    fn debug_of_a_ring_shows_no_key() {
        let ring = KeyRing::new(Secret::new(STANDARD)).unwrap();
        assert_eq!(format!("{ring:?}"), "KeyRing { keys: 1, .. }");
    }

    #[test]
    fn derived_keys_are_those_of_rfc_5869() {
        let ring = KeyRing::new(Secret::new(STANDARD)).unwrap();
        let key = ring.first().unwrap();
        // Computed by another implementation. A change would make stored values unreadable.
        assert_eq!(u64::from_be_bytes(key.id().unwrap()), 0x91c1_2d11_90c8_aa65);
        let tag = hmac::sign(&key.for_names().unwrap(), b"spec");
        assert_eq!(tag.as_ref()[..8], 0x4af3_fe42_ef92_376f_u64.to_be_bytes());
    }

    #[test]
    fn keys_derived_for_different_purposes_differ() {
        let key = KeyRing::new(Secret::new(STANDARD))
            .unwrap()
            .first()
            .unwrap();
        let derive = |salt: &[u8], info: &[u8]| *key.derive(salt, info).unwrap();
        let all = [
            derive(b"", b"a"),
            derive(b"", b"b"),
            derive(b"a", b""),
            derive(b"b", b""),
        ];
        let different: std::collections::HashSet<_> = all.into_iter().collect();
        assert_eq!(different.len(), 4);
        let id = derive(b"", b"tower-bearer store v1: id");
        assert_eq!(id[..8], key.id().unwrap());
    }
}
