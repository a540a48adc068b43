//! Encrypts and decrypts one record, and binds it to the key that it is stored under.
//!
//! ```text
//! version (1) | key id (8) | salt (32) | AES-256-GCM of the record's bytes, and its tag (16)
//! ```
//!
//! Each record is encrypted with a separate key, which HKDF derives from the store's key and a random salt of 32 bytes. The nonce
//! can therefore be zero: no two records, of however many processes, share both key and nonce, which would break AES-GCM. The
//! header in front of the ciphertext and the whole [`StoreKey`](super::StoreKey) are authenticated.

use aws_lc_rs::{
    aead::{Aad, NONCE_LEN, Nonce},
    error::Unspecified,
    rand,
};
use bytes::Bytes;
use zeroize::Zeroizing;

use super::{
    key_ring::{Key, KeyId, Salt},
    record::Record,
};

const VERSION: u8 = 1;
const HEADER_SIZE: usize = 1 + size_of::<KeyId>() + size_of::<Salt>();

/// The reason why a value can't be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It was written by a later version of this crate.
    Version,
    /// It was encrypted with a key that is not in the ring.
    Key,
    /// It is damaged, or belongs to another store key.
    Damaged,
}

impl Unreadable {
    /// Returns the reason's name, for logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Key => "key",
            Self::Damaged => "damaged",
        }
    }
}

/// Encrypts a record, bound to `store_key`.
pub(crate) fn encrypt(record: &Record, store_key: &[u8], key: &Key) -> Result<Bytes, Unspecified> {
    let mut salt = Salt::default();
    rand::fill(&mut salt)?;
    let header = [&[VERSION][..], &key.id()?, &salt].concat();

    let mut text = record.to_bytes();
    let tag = key.for_record(&salt)?.seal_in_place_separate_tag(
        zero_nonce(),
        Aad::from([&header, store_key].concat()),
        &mut text,
    )?;
    Ok([&header, &*text, tag.as_ref()].concat().into())
}

/// Decrypts a record that [`encrypt`] bound to the same `store_key`, with any of the keys.
pub(crate) fn decrypt(value: &[u8], store_key: &[u8], keys: &[Key]) -> Result<Record, Unreadable> {
    match value.first() {
        Some(&VERSION) => {}
        Some(_) => return Err(Unreadable::Version),
        None => return Err(Unreadable::Damaged),
    }
    let (header, id, salt, encrypted) = split(value).ok_or(Unreadable::Damaged)?;
    // Two keys may have the same id, by chance or on purpose. The authentication tag decides.
    let mut candidates = keys.iter().filter(|key| key.id() == Ok(*id)).peekable();
    if candidates.peek().is_none() {
        return Err(Unreadable::Key);
    }
    let aad = [header, store_key].concat();
    let mut text = Zeroizing::new(encrypted.to_vec());
    candidates
        .find_map(|key| {
            text.copy_from_slice(encrypted);
            let key = key.for_record(salt).ok()?;
            let text = key.open_in_place(zero_nonce(), Aad::from(&aad), &mut text);
            Record::from_bytes(text.ok()?)
        })
        .ok_or(Unreadable::Damaged)
}

/// Splits a value into its header, the two fields of the header, and the encrypted bytes.
fn split(value: &[u8]) -> Option<(&[u8], &KeyId, &Salt, &[u8])> {
    let (header, encrypted) = value.split_at_checked(HEADER_SIZE)?;
    let (id, salt) = header.get(1..)?.split_first_chunk()?;
    Some((header, id, salt.try_into().ok()?, encrypted))
}

/// Returns the nonce, which is zero because each key encrypts only one record.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;
    use crate::{secret::Secret, store::KeyRing, util::length_prefixed};

    const FIRST: &str = "0nF2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE=";
    const SECOND: &str = "QmfdFM4UlZXi2qBJ6gZLCWpq4S1Nd4B0jLl6X0KdQRc=";

    fn key(text: &str) -> Key {
        KeyRing::new(Secret::new(text)).unwrap().first().unwrap()
    }

    fn record(text: &str) -> Record {
        Record {
            text: Zeroizing::new(text.into()),
            requested_at: 1_000,
            refresh_at: 3_000,
            expires_at: 4_600,
            scopes: None,
            extra_headers: Vec::new(),
        }
    }

    fn full() -> Record {
        Record {
            scopes: Some("read write".into()),
            extra_headers: vec![(
                HeaderName::from_static("x-goog-user-project"),
                HeaderValue::from_static("billed:1"),
            )],
            ..record("token")
        }
    }

    #[test]
    fn decryption_returns_the_encrypted_record() {
        for record in [record("token"), record(""), full()] {
            let encrypted = encrypt(&record, b"key", &key(FIRST)).unwrap();
            assert_eq!(decrypt(&encrypted, b"key", &[key(FIRST)]), Ok(record));
        }
    }

    #[test]
    fn decrypted_header_value_is_sensitive() {
        let encrypted = encrypt(&full(), b"key", &key(FIRST)).unwrap();
        let record = decrypt(&encrypted, b"key", &[key(FIRST)]).unwrap();
        assert!(record.extra_headers[0].1.is_sensitive());
    }

    #[test]
    fn changing_any_bit_makes_a_value_unreadable() {
        let encrypted = encrypt(&full(), b"key", &key(FIRST)).unwrap();
        for bit in 0..encrypted.len() * 8 {
            let mut changed = encrypted.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            let decrypted = decrypt(&changed, b"key", &[key(FIRST), key(SECOND)]);
            let why = match bit / 8 {
                0 => Unreadable::Version,
                1..=8 => Unreadable::Key,
                _ => Unreadable::Damaged,
            };
            assert_eq!(decrypted, Err(why), "{bit}");
        }
    }

    #[test]
    fn truncated_value_is_unreadable() {
        let encrypted = encrypt(&full(), b"key", &key(FIRST)).unwrap();
        for length in 0..encrypted.len() {
            assert!(
                decrypt(&encrypted[..length], b"key", &[key(FIRST)]).is_err(),
                "{length}"
            );
        }
    }

    #[test]
    fn value_is_unreadable_under_another_store_key() {
        let encrypted = encrypt(&record("token"), b"key", &key(FIRST)).unwrap();
        for other in [&b"key2"[..], b"ke", b"", b"Key"] {
            let decrypted = decrypt(&encrypted, other, &[key(FIRST)]);
            assert_eq!(decrypted, Err(Unreadable::Damaged));
        }
    }

    #[test]
    fn any_key_of_the_ring_decrypts_and_another_does_not() {
        let encrypted = encrypt(&record("token"), b"key", &key(SECOND)).unwrap();
        assert!(decrypt(&encrypted, b"key", &[key(FIRST), key(SECOND)]).is_ok());
        assert_eq!(
            decrypt(&encrypted, b"key", &[key(FIRST)]),
            Err(Unreadable::Key)
        );
        assert_eq!(decrypt(&encrypted, b"key", &[]), Err(Unreadable::Key));
    }

    #[test]
    fn same_record_is_encrypted_differently_each_time() {
        let encrypt_again = || encrypt(&record("token"), b"key", &key(FIRST)).unwrap();
        let all: std::collections::HashSet<_> =
            (0..1000).map(|_| encrypt_again()[9..].to_vec()).collect();
        assert_eq!(all.len(), 1000);
    }

    #[test]
    fn neither_ciphertext_nor_debug_shows_the_record() {
        let encrypted = encrypt(&full(), b"key-of-orders", &key(FIRST)).unwrap();
        let shown = format!("{:?}", full());
        for word in [
            "token", "read", "write", "project", "billed", "key-of", "orders",
        ] {
            assert!(
                !encrypted
                    .windows(word.len())
                    .any(|window| window == word.as_bytes()),
                "{word}"
            );
        }
        for word in ["\"token", "billed"] {
            assert!(!shown.contains(word), "{word} in {shown}");
        }
    }

    #[test]
    fn unknown_field_makes_a_record_unreadable() {
        let mut bytes = record("token").to_bytes().to_vec();
        assert!(Record::from_bytes(&bytes).is_some());
        bytes.push(99);
        length_prefixed::put(&mut bytes, b"");
        assert_eq!(Record::from_bytes(&bytes), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_unreadable_without_panic(value: Vec<u8>, store_key: Vec<u8>) {
            prop_assert!(decrypt(&value, &store_key, &[key(FIRST), key(SECOND)]).is_err());
        }

        #[test]
        fn arbitrary_bytes_after_a_valid_header_are_damaged(rest: Vec<u8>) {
            let id = key(FIRST).id().unwrap();
            let value = [&[VERSION][..], &id, &[7; 32], &rest].concat();
            prop_assert_eq!(decrypt(&value, b"key", &[key(FIRST)]), Err(Unreadable::Damaged));
        }

        #[test]
        fn arbitrary_record_bytes_cause_no_panic(bytes: Vec<u8>) {
            if let Some(record) = Record::from_bytes(&bytes) {
                prop_assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
            }
        }

        #[test]
        fn arbitrary_records_survive_encryption(
            text: String, scopes: Option<String>,
            times: (u64, u64, u64), store_key: Vec<u8>,
        ) {
            let (requested_at, refresh_at, expires_at) = times;
            let record = Record {
                requested_at, refresh_at, expires_at,
                scopes: scopes.map(String::into_boxed_str),
                ..record(&text)
            };
            let encrypted = encrypt(&record, &store_key, &key(FIRST)).unwrap();
            prop_assert_eq!(decrypt(&encrypted, &store_key, &[key(FIRST)]), Ok(record));
        }
    }
}
