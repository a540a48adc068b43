//! A record sealed: nobody without the key can read it, change it, or pass it off as the record of another key.
//!
//! ```text
//! version (1) | key id (8) | salt (32) | AES-256-GCM of the record's bytes, and its tag (16)
//! ```
//!
//! Each record has a key of its own, which HKDF makes of the store's key and 32 random bytes. So no number of records, and no
//! number of processes, can make two of them meet with the same key and nonce, which is what GCM does not forgive. The nonce of
//! a key that is used once is zero. What stands before the ciphertext is authenticated, and so is the whole key of the place.

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
const HEAD: usize = 1 + size_of::<KeyId>() + size_of::<Salt>();

/// Why a value could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It was written by a later version.
    Version,
    /// It was sealed with a key that is not in the ring.
    Key,
    /// It is damaged, or not made for this place.
    Damaged,
}

impl Unreadable {
    /// The reason's name, for logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Key => "key",
            Self::Damaged => "damaged",
        }
    }
}

/// Seals a record for the place with this whole key.
pub(crate) fn encrypt(record: &Record, place: &[u8], key: &Key) -> Result<Bytes, Unspecified> {
    let mut salt = Salt::default();
    rand::fill(&mut salt)?;
    let head = [&[VERSION][..], &key.id()?, &salt].concat();

    let mut text = record.to_bytes();
    let tag = key.for_record(&salt)?.seal_in_place_separate_tag(
        only_nonce(),
        Aad::from([&head, place].concat()),
        &mut text,
    )?;
    Ok([&head, &*text, tag.as_ref()].concat().into())
}

/// Opens what [`encrypt`] made for the same place, with whichever of these keys it was.
pub(crate) fn decrypt(value: &[u8], place: &[u8], keys: &[Key]) -> Result<Record, Unreadable> {
    if value.first() != Some(&VERSION) {
        return Err(value
            .first()
            .map_or(Unreadable::Damaged, |_| Unreadable::Version));
    }
    let Some((head, sealed)) = value.split_at_checked(HEAD) else {
        return Err(Unreadable::Damaged);
    };
    let Some((id, salt)) = ids(head) else {
        return Err(Unreadable::Damaged);
    };
    let mut text = Zeroizing::new(sealed.to_vec());
    // Eight bytes may be the same by chance or by intent; whether a key fits is for the tag to say.
    let mut known = keys.iter().filter(|key| key.id() == Ok(id)).peekable();
    if known.peek().is_none() {
        return Err(Unreadable::Key);
    }
    let aad = [head, place].concat();
    known
        .find_map(|key| {
            text.copy_from_slice(sealed);
            let key = key.for_record(&salt).ok()?;
            let text = key
                .open_in_place(only_nonce(), Aad::from(&aad), &mut text)
                .ok()?;
            Record::from_bytes(text)
        })
        .ok_or(Unreadable::Damaged)
}

fn ids(head: &[u8]) -> Option<(KeyId, Salt)> {
    let (_version, rest) = head.split_first()?;
    let (id, salt) = rest.split_first_chunk()?;
    Some((*id, salt.try_into().ok()?))
}

/// A record's key seals this one record.
fn only_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

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
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        Record::new(text, at(1_000), at(3_000), at(4_600))
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
    fn what_is_sealed_is_opened_whole() {
        for record in [record("token"), record(""), full()] {
            let sealed = encrypt(&record, b"place", &key(FIRST)).unwrap();
            assert_eq!(decrypt(&sealed, b"place", &[key(FIRST)]), Ok(record));
        }
    }

    #[test]
    fn a_header_that_comes_out_is_still_sensitive() {
        let sealed = encrypt(&full(), b"place", &key(FIRST)).unwrap();
        let record = decrypt(&sealed, b"place", &[key(FIRST)]).unwrap();
        assert!(record.extra_headers[0].1.is_sensitive());
    }

    #[test]
    fn any_bit_that_is_changed_makes_it_unreadable() {
        let sealed = encrypt(&full(), b"place", &key(FIRST)).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            let opened = decrypt(&changed, b"place", &[key(FIRST), key(SECOND)]);
            let why = match bit / 8 {
                0 => Unreadable::Version,
                1..=8 => Unreadable::Key,
                _ => Unreadable::Damaged,
            };
            assert_eq!(opened, Err(why), "{bit}");
        }
    }

    #[test]
    fn what_was_cut_is_unreadable() {
        let sealed = encrypt(&full(), b"place", &key(FIRST)).unwrap();
        for length in 0..sealed.len() {
            assert!(
                decrypt(&sealed[..length], b"place", &[key(FIRST)]).is_err(),
                "{length}"
            );
        }
    }

    #[test]
    fn what_was_sealed_for_one_place_is_nothing_in_another() {
        let sealed = encrypt(&record("token"), b"place", &key(FIRST)).unwrap();
        for other in [&b"place2"[..], b"plac", b"", b"StoreKey"] {
            let opened = decrypt(&sealed, other, &[key(FIRST)]);
            assert_eq!(opened, Err(Unreadable::Damaged));
        }
    }

    #[test]
    fn any_key_of_a_ring_opens_and_another_does_not() {
        let sealed = encrypt(&record("token"), b"place", &key(SECOND)).unwrap();
        assert!(decrypt(&sealed, b"place", &[key(FIRST), key(SECOND)]).is_ok());
        assert_eq!(
            decrypt(&sealed, b"place", &[key(FIRST)]),
            Err(Unreadable::Key)
        );
        assert_eq!(decrypt(&sealed, b"place", &[]), Err(Unreadable::Key));
    }

    #[test]
    fn the_same_record_is_never_sealed_to_the_same_bytes() {
        let seal = || encrypt(&record("token"), b"place", &key(FIRST)).unwrap();
        let all: std::collections::HashSet<_> = (0..1000).map(|_| seal()[9..].to_vec()).collect();
        assert_eq!(all.len(), 1000);
    }

    #[test]
    fn no_word_of_a_record_is_in_the_sealed_bytes_or_in_its_debug() {
        let sealed = encrypt(&full(), b"place-of-orders", &key(FIRST)).unwrap();
        let shown = format!("{:?}", full());
        for word in [
            "token", "read", "write", "project", "billed", "place", "orders",
        ] {
            assert!(
                !sealed
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
    fn a_field_that_this_version_does_not_know_makes_a_record_unreadable() {
        let mut bytes = record("token").to_bytes().to_vec();
        assert!(Record::from_bytes(&bytes).is_some());
        bytes.push(99);
        length_prefixed::put(&mut bytes, b"");
        assert_eq!(Record::from_bytes(&bytes), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_miss_and_no_panic(value: Vec<u8>, place: Vec<u8>) {
            prop_assert!(decrypt(&value, &place, &[key(FIRST), key(SECOND)]).is_err());
        }

        #[test]
        fn any_bytes_behind_a_true_beginning_are_a_miss_and_no_panic(rest: Vec<u8>) {
            let id = key(FIRST).id().unwrap();
            let value = [&[VERSION][..], &id, &[7; 32], &rest].concat();
            prop_assert_eq!(decrypt(&value, b"place", &[key(FIRST)]), Err(Unreadable::Damaged));
        }

        #[test]
        fn any_bytes_are_a_record_or_none_and_no_panic(bytes: Vec<u8>) {
            if let Some(record) = Record::from_bytes(&bytes) {
                prop_assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
            }
        }

        #[test]
        fn any_token_and_scopes_come_out_as_they_went_in(
            text: String, scopes: Option<String>,
            times: (u64, u64, u64), place: Vec<u8>,
        ) {
            let at = |nanos| UNIX_EPOCH + Duration::from_nanos(nanos);
            let record = Record {
                scopes: scopes.map(String::into_boxed_str),
                ..Record::new(text, at(times.0), at(times.1), at(times.2))
            };
            let sealed = encrypt(&record, &place, &key(FIRST)).unwrap();
            prop_assert_eq!(decrypt(&sealed, &place, &[key(FIRST)]), Ok(record));
        }
    }
}
