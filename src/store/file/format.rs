//! Encodes a table as a file: a first line, a digest of the rest, and the rest.
//!
//! The digest detects a truncated or overwritten file. It does not protect from deliberate changes; the encryption of each value
//! does.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;

use crate::{
    store::{
        Name,
        table::{Expiring, Table},
    },
    util::length_prefixed::{put, put_u64, take, take_u64},
};

const FIRST_LINE: &[u8] = b"tower-bearer store 1\n";
const DIGEST: usize = 32;

/// Encodes a table.
pub(super) fn write(table: &Table) -> Vec<u8> {
    let mut body = Vec::with_capacity(2 * table.size());
    for (name, entry) in &table.entries {
        put(&mut body, name.as_str().as_bytes());
        put_expiring(&mut body, &entry.value, |body, value| put(body, value));
        put_expiring(&mut body, &entry.lease, |body, holder| {
            put(body, holder.as_bytes());
        });
        put_expiring(&mut body, &entry.fence, |body, fence| put_u64(body, *fence));
    }
    [FIRST_LINE, digest(&SHA256, &body).as_ref(), &body].concat()
}

/// Decodes a table. Returns `None` if the file is damaged or has another version.
pub(super) fn read(file: &[u8]) -> Option<Table> {
    let (found, mut body) = file.strip_prefix(FIRST_LINE)?.split_at_checked(DIGEST)?;
    if digest(&SHA256, body).as_ref() != found {
        return None;
    }
    let mut table = Table::default();
    while !body.is_empty() {
        let name = Name::new(str::from_utf8(take(&mut body)?).ok()?).ok()?;
        let entry = table.entries.entry(name).or_default();
        let holder = |body: &mut &[u8]| Some(str::from_utf8(take(body)?).ok()?.into());
        take_expiring(&mut body, &mut entry.value, |body| {
            take(body).map(Bytes::copy_from_slice)
        })?;
        take_expiring(&mut body, &mut entry.lease, holder)?;
        take_expiring(&mut body, &mut entry.fence, take_u64)?;
    }
    Some(table)
}

fn put_expiring<T>(
    body: &mut Vec<u8>,
    part: &Option<Expiring<T>>,
    encode: impl FnOnce(&mut Vec<u8>, &T),
) {
    body.push(part.is_some().into());
    if let Some(part) = part {
        put_u64(body, part.start);
        put_u64(body, part.end);
        encode(body, &part.value);
    }
}

/// Decodes a part, if there is one. Returns `None` if it is malformed.
fn take_expiring<T>(
    body: &mut &[u8],
    part: &mut Option<Expiring<T>>,
    decode: impl FnOnce(&mut &[u8]) -> Option<T>,
) -> Option<()> {
    let (&is_some, rest) = body.split_first()?;
    *body = rest;
    if is_some != 0 {
        let (start, end) = (take_u64(body)?, take_u64(body)?);
        let value = decode(body)?;
        *part = Some(Expiring { value, start, end });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn table() -> Table {
        let mut table = Table::default();
        let [a, b] = ["a", "b"].map(|name| Name::new(name).unwrap());
        let lease = table
            .lease(&a, Duration::from_secs(5), "holder", 1)
            .unwrap();
        table.put(
            &a,
            "value".into(),
            Duration::from_secs(9),
            Some(lease.fence()),
            2,
        );
        table.put(&b, Bytes::new(), Duration::MAX, None, 3);
        table
    }

    #[test]
    fn decoding_returns_the_encoded_table() {
        for table in [Table::default(), table()] {
            assert_eq!(read(&write(&table)), Some(table));
        }
    }

    #[test]
    fn truncated_file_is_not_decoded() {
        let file = write(&table());
        for length in 0..file.len() {
            assert_eq!(read(&file[..length]), None, "{length}");
        }
    }

    #[test]
    fn file_with_any_bit_changed_is_not_decoded() {
        let file = write(&table());
        for bit in 0..file.len() * 8 {
            let mut changed = file.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&changed), None, "{bit}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_contents_with_a_valid_digest_cause_no_panic(body: Vec<u8>) {
            let file = [FIRST_LINE, digest(&SHA256, &body).as_ref(), &body].concat();
            read(&file);
        }
    }
}
