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
pub(crate) fn seal(record: &Record, place: &[u8], key: &Key) -> Result<Bytes, Unspecified> {
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

/// Opens what [`seal`] made for the same place, with whichever of these keys it was.
pub(crate) fn open(value: &[u8], place: &[u8], keys: &[Key]) -> Result<Record, Unreadable> {
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
