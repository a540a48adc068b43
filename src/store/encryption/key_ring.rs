//! Holds the keys of a store, and derives from them the keys that encrypt records and make names.

use std::{fmt, sync::Arc};

use aws_lc_rs::{aead, error::Unspecified, hkdf, hmac};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
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
pub struct KeyRing(Arc<[Secret]>);

impl KeyRing {
    /// Creates a ring with one key.
    ///
    /// # Errors
    /// Returns an error if the secret can't be read, or is not 32 random bytes in base64.
    pub fn new(key: Secret) -> Result<Self, TokenError> {
        Key::read(&key)?;
        Ok(Self(Arc::new([key])))
    }

    /// Adds an older key, to find and decrypt the values that were stored with it.
    ///
    /// # Errors
    /// Returns an error if the secret can't be read, or is not 32 random bytes in base64.
    pub fn with_older(self, key: Secret) -> Result<Self, TokenError> {
        Key::read(&key)?;
        Ok(Self(self.0.iter().cloned().chain([key]).collect()))
    }

    /// Reads the key that encrypts.
    pub(crate) fn first(&self) -> Result<Key, TokenError> {
        match self.0.first() {
            Some(key) => Key::read(key),
            None => Err(TokenError::configuration("the key ring is empty")),
        }
    }

    /// Reads all keys, beginning with the one that encrypts.
    pub(crate) fn keys(&self) -> Result<Vec<Key>, TokenError> {
        self.0.iter().map(Key::read).collect()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("keys", &self.0.len())
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
        let read = decode(text.as_str(), &mut *bytes);
        let Ok(LENGTH) = read else {
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
        let mut id = KeyId::default();
        self.derive(NO_SALT, b"tower-bearer store v1: id", IdLength, |okm| {
            okm.fill(&mut id)
        })?;
        Ok(id)
    }

    /// Derives the key for names.
    pub(crate) fn for_names(&self) -> Result<hmac::Key, Unspecified> {
        self.derive(
            NO_SALT,
            b"tower-bearer store v1: names",
            hmac::HMAC_SHA256,
            |okm| Ok(okm.into()),
        )
    }

    /// Derives the key that encrypts the record with this salt.
    pub(crate) fn for_record(&self, salt: &Salt) -> Result<aead::LessSafeKey, Unspecified> {
        self.derive(
            salt,
            b"tower-bearer store v1: seal",
            &aead::AES_256_GCM,
            |okm| Ok(aead::LessSafeKey::new(okm.into())),
        )
    }

    /// Derives a key with HKDF (RFC 5869). `info` names its purpose.
    fn derive<L: hkdf::KeyType, T>(
        &self,
        salt: &[u8],
        info: &[u8],
        length: L,
        make: impl FnOnce(hkdf::Okm<'_, L>) -> Result<T, Unspecified>,
    ) -> Result<T, Unspecified> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&*self.0);
        make(prk.expand(&[info], length)?)
    }
}

struct IdLength;

impl hkdf::KeyType for IdLength {
    fn len(&self) -> usize {
        size_of::<KeyId>()
    }
}

const NO_SALT: &[u8] = &[];

/// Decodes base64 in either alphabet, with or without padding.
fn decode(text: &str, into: &mut [u8]) -> Result<usize, base64::DecodeSliceError> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) {
        &alphabet::URL_SAFE
    } else {
        &alphabet::STANDARD
    };
    GeneralPurpose::new(alphabet, LENIENT).decode_slice(text, into)
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
    fn keys_derived_for_different_purposes_differ() {
        let key = KeyRing::new(Secret::new(STANDARD))
            .unwrap()
            .first()
            .unwrap();
        let derive = |salt: &[u8], info: &[u8]| {
            let mut out = KeyId::default();
            key.derive(salt, info, IdLength, |okm| okm.fill(&mut out))
                .unwrap();
            out
        };
        let all = [
            derive(b"", b"a"),
            derive(b"", b"b"),
            derive(b"a", b""),
            derive(b"b", b""),
        ];
        let different: std::collections::HashSet<_> = all.into_iter().collect();
        assert_eq!(different.len(), 4);
        assert_eq!(derive(b"", b"tower-bearer store v1: id"), key.id().unwrap());
    }
}
