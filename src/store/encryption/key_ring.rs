//! The keys that seal what a store keeps, and that its names are made with.

use std::{fmt, sync::Arc};

use aws_lc_rs::{aead, error::Unspecified, hkdf, hmac};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use crate::{error::TokenError, secret::Secret};

/// The keys of a store: the first seals, any of them opens.
///
/// A key is 32 random bytes in base64; `openssl rand -base64 32` makes one. It may come from wherever a
/// [`Secret`] does. One from a file is read anew for every use. There is no store without a key.
///
/// All that share a store need the same key. To replace it without a miss, give everybody the new key as an older one;
/// when all have it, let it be the first, with the one before as the older; and when the tokens of that time are over,
/// leave that out.
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
    /// A ring of this key alone.
    ///
    /// # Errors
    /// The secret can't be read now, or is not the base64 of 32 random bytes.
    pub fn new(key: Secret) -> Result<Self, TokenError> {
        Key::read(&key)?;
        Ok(Self(Arc::new([key])))
    }

    /// And this key, to open what was sealed with it, and to find what was named by it.
    ///
    /// # Errors
    /// The secret can't be read now, or is not the base64 of 32 random bytes.
    pub fn with_older(self, key: Secret) -> Result<Self, TokenError> {
        Key::read(&key)?;
        Ok(Self(self.0.iter().cloned().chain([key]).collect()))
    }

    /// The key that seals.
    pub(crate) fn first(&self) -> Result<Key, TokenError> {
        match self.0.first() {
            Some(key) => Key::read(key),
            None => Err(TokenError::configuration("the key ring is empty")),
        }
    }

    /// All keys as they are now, the one that seals first.
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

/// A key's number of bytes.
const LENGTH: usize = 32;

/// A key in the clear, for as long as this lives. Nothing is done with it but to derive others, each for one purpose.
pub(crate) struct Key(Zeroizing<[u8; LENGTH]>);

/// Tells the keys of a ring apart.
pub(crate) type KeyId = [u8; 8];

/// What makes the key of one record: random, and never used again.
pub(crate) type Salt = [u8; 32];

impl Key {
    fn read(secret: &Secret) -> Result<Self, TokenError> {
        let text = secret.expose()?;
        let mut bytes = Zeroizing::new([0; LENGTH]);
        let read = decode(text.as_str(), &mut *bytes);
        let Ok(LENGTH) = read else {
            return Err(TokenError::configuration(
                "the key of the store is not 32 bytes in base64: make one with `openssl rand -base64 32`",
            ));
        };
        if bytes.windows(2).all(|pair| pair.first() == pair.last()) {
            return Err(TokenError::configuration(
                "the key of the store is not random: make one with `openssl rand -base64 32`",
            ));
        }
        Ok(Self(bytes))
    }

    /// What tells it from the others, and tells nothing of it.
    pub(crate) fn id(&self) -> Result<KeyId, Unspecified> {
        let mut id = KeyId::default();
        self.derive(NO_SALT, b"tower-bearer store v1: id", IdLength, |okm| {
            okm.fill(&mut id)
        })?;
        Ok(id)
    }

    /// The key that names are made with.
    pub(crate) fn for_names(&self) -> Result<hmac::Key, Unspecified> {
        self.derive(
            NO_SALT,
            b"tower-bearer store v1: names",
            hmac::HMAC_SHA256,
            |okm| Ok(okm.into()),
        )
    }

    /// The key that seals the one record with this salt.
    pub(crate) fn for_record(&self, salt: &Salt) -> Result<aead::LessSafeKey, Unspecified> {
        self.derive(
            salt,
            b"tower-bearer store v1: seal",
            &aead::AES_256_GCM,
            |okm| Ok(aead::LessSafeKey::new(okm.into())),
        )
    }

    /// RFC 5869: the salt is 32 random bytes or none, and `info` says what the key is for.
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

/// Either alphabet, padded or not.
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
    fn a_key_may_be_of_either_alphabet_and_padded_or_not() {
        let url_safe = STANDARD.replace('+', "-").replace('/', "_");
        for text in [STANDARD, &url_safe, &STANDARD[..43], &url_safe[..43]] {
            assert_eq!(id(text), id(STANDARD));
        }
    }

    #[test]
    fn a_key_that_is_none_is_refused_and_not_shown() {
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
    fn no_key_is_in_the_debug_of_a_ring() {
        let ring = KeyRing::new(Secret::new(STANDARD)).unwrap();
        assert_eq!(format!("{ring:?}"), "KeyRing { keys: 1, .. }");
    }

    #[test]
    fn what_is_derived_for_one_purpose_is_another_for_the_next() {
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
