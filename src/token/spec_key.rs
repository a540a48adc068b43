//! Encodes the parts of a [`TokenSpec`](super::TokenSpec) as one key.
//!
//! A key is a sorted sequence of records without duplicates: a tag, a length in four bytes and that many bytes. Different
//! parts never have the same key, and the key of the same parts is the same in every process.

/// A part of a spec: the number of its tag, and its value.
pub(super) type Record<'a> = (u8, &'a [u8]);

/// The kinds of records. Their numbers are part of the names under which stores keep tokens.
#[derive(Clone, Copy)]
pub(super) enum Tag {
    Scope = 1,
    Resource = 2,
    Audience = 3,
    Tenant = 4,
    Extra = 5,
    Subject = 6,
}

impl Tag {
    /// Returns `true` if a spec can have several records with this tag.
    pub(super) fn is_repeatable(self) -> bool {
        matches!(self, Self::Scope | Self::Resource | Self::Extra)
    }
}

/// Encodes the records.
pub(super) fn encode<'a>(records: impl Iterator<Item = Record<'a>>) -> Box<[u8]> {
    let mut records: Vec<_> = records.collect();
    records.sort_unstable();
    records.dedup();
    let size = records.iter().map(|(_, record)| 5 + record.len()).sum();
    let mut key = Vec::with_capacity(size);
    for (tag, record) in records {
        key.push(tag);
        put(&mut key, record);
    }
    key.into_boxed_slice()
}

/// Decodes the records of a key.
pub(super) fn records(mut key: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let (&tag, rest) = key.split_first()?;
        key = rest;
        Some((tag, take(&mut key)?))
    })
}

/// Appends `bytes` with their length in front. Four bytes are enough for it, and a cache may have very many keys.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend(length.to_le_bytes());
    out.extend(bytes);
}

/// Removes the first byte string from `input` and returns it.
pub(super) fn take<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = input.split_first_chunk()?;
    let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *input = rest;
    Some(bytes)
}
