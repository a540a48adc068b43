//! Defines the record of a stored token and its encoding, before it is encrypted.

use std::fmt;

use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::{secret::wiped, util::length_prefixed};

/// A stored token. Its times are in nanoseconds since 1970, by the wall clock of the process that fetched it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The access token.
    pub(crate) text: Zeroizing<String>,
    /// The time before the token was requested.
    pub(crate) requested_at: u64,
    /// The time from which it should be refreshed.
    pub(crate) refresh_at: u64,
    /// The expiry set by the provider.
    pub(crate) expires_at: u64,
    /// The granted scopes, if the provider named them.
    pub(crate) scopes: Option<Box<str>>,
    /// The extra headers that are sent with the token.
    pub(crate) extra_headers: Vec<(HeaderName, HeaderValue)>,
}

/// The tags of the fields. A record with an unknown tag is unreadable, since the field might change the meaning of the token.
mod tag {
    pub(super) const TEXT: u8 = 1;
    pub(super) const REQUESTED_AT: u8 = 2;
    pub(super) const REFRESH_AT: u8 = 3;
    pub(super) const EXPIRES_AT: u8 = 4;
    pub(super) const SCOPES: u8 = 5;
    pub(super) const HEADER_NAME: u8 = 6;
    pub(super) const HEADER_VALUE: u8 = 7;
}

impl Record {
    /// Encodes the record. The bytes are wiped when they are dropped.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let [requested_at, refresh_at, expires_at] =
            [self.requested_at, self.refresh_at, self.expires_at].map(u64::to_be_bytes);
        let mut fields: Vec<(u8, &[u8])> = vec![
            (tag::TEXT, self.text.as_bytes()),
            (tag::REQUESTED_AT, &requested_at),
            (tag::REFRESH_AT, &refresh_at),
            (tag::EXPIRES_AT, &expires_at),
        ];
        if let Some(scopes) = &self.scopes {
            fields.push((tag::SCOPES, scopes.as_bytes()));
        }
        for (name, value) in &self.extra_headers {
            fields.push((tag::HEADER_NAME, name.as_str().as_bytes()));
            fields.push((tag::HEADER_VALUE, value.as_bytes()));
        }
        let size = |(_, field): &(u8, &[u8])| 1 + length_prefixed::LENGTH_SIZE + field.len();
        // Allocated at once: growing would leave copies of the token in freed memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(fields.iter().map(size).sum()));
        for (tag, field) in fields {
            bytes.push(tag);
            length_prefixed::put(&mut bytes, field);
        }
        bytes
    }

    /// Decodes a record; returns `None` if a field is missing, malformed or unknown.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let (mut text, mut scopes, mut header_name) = (None, None, None);
        let (mut requested_at, mut refresh_at, mut expires_at) = (None, None, None);
        let mut extra_headers = Vec::new();
        while let Some((&tag, rest)) = bytes.split_first() {
            bytes = rest;
            let field = length_prefixed::take(&mut bytes)?;
            match tag {
                tag::TEXT => text = Some(Zeroizing::new(str::from_utf8(field).ok()?.to_owned())),
                tag::REQUESTED_AT => requested_at = Some(nanos(field)?),
                tag::REFRESH_AT => refresh_at = Some(nanos(field)?),
                tag::EXPIRES_AT => expires_at = Some(nanos(field)?),
                tag::SCOPES => scopes = Some(str::from_utf8(field).ok()?.into()),
                tag::HEADER_NAME => header_name = Some(HeaderName::from_bytes(field).ok()?),
                tag::HEADER_VALUE => {
                    extra_headers.push((header_name.take()?, header_value(field)?));
                }
                _ => return None,
            }
        }
        Some(Self {
            text: text?,
            requested_at: requested_at?,
            refresh_at: refresh_at?,
            expires_at: expires_at?,
            scopes,
            extra_headers,
        })
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("requested_at", &self.requested_at)
            .field("refresh_at", &self.refresh_at)
            .field("expires_at", &self.expires_at)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

fn header_value(field: &[u8]) -> Option<HeaderValue> {
    let value = Zeroizing::new(field.to_vec());
    let mut value = HeaderValue::from_maybe_shared(wiped(value)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn nanos(field: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(field.try_into().ok()?))
}
