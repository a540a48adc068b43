//! A token as a store keeps it, before it is sealed: its fields, and the bytes they are written as.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::secret::wiped;

/// A token that another process, or another run of this one, can go on with. Its times are of the wall clock.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// The access token.
    pub(crate) text: Zeroizing<String>,
    /// Before it was asked for.
    pub(crate) obtained: SystemTime,
    /// From here on another is due.
    pub(crate) refresh: SystemTime,
    /// The provider's end.
    pub(crate) expiry: SystemTime,
    /// The scopes that were granted, where the provider named them.
    pub(crate) scopes: Option<Box<str>>,
    /// The headers that go with it.
    pub(crate) further: Vec<(HeaderName, HeaderValue)>,
}

/// The kinds of fields. What has no number here makes a record unreadable: it might change what the token is.
mod tag {
    pub(super) const TEXT: u8 = 1;
    pub(super) const OBTAINED: u8 = 2;
    pub(super) const REFRESH: u8 = 3;
    pub(super) const EXPIRY: u8 = 4;
    pub(super) const SCOPES: u8 = 5;
    pub(super) const HEADER: u8 = 6;
}

/// A field's tag, and its length in four bytes.
const HEAD: usize = 5;

impl Record {
    /// A token of this text that was asked for, is due for refresh and expires then, and nothing else.
    pub(crate) fn new(
        text: impl Into<String>,
        obtained: SystemTime,
        refresh: SystemTime,
        expiry: SystemTime,
    ) -> Self {
        Self {
            text: Zeroizing::new(text.into()),
            obtained,
            refresh,
            expiry,
            scopes: None,
            further: Vec::new(),
        }
    }

    /// Its fields, one after another; wiped, and never moved while it grows.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut size = 0;
        self.each_field(|_, parts| {
            size += HEAD + parts.iter().map(|part| part.len()).sum::<usize>();
        });
        let mut bytes = Zeroizing::new(Vec::with_capacity(size));
        self.each_field(|tag, parts| {
            let length: usize = parts.iter().map(|part| part.len()).sum();
            bytes.push(tag);
            bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
            for part in parts {
                bytes.extend_from_slice(part);
            }
        });
        bytes
    }

    fn each_field(&self, mut field: impl FnMut(u8, &[&[u8]])) {
        field(tag::TEXT, &[self.text.as_bytes()]);
        field(tag::OBTAINED, &[&nanos(self.obtained)]);
        field(tag::REFRESH, &[&nanos(self.refresh)]);
        field(tag::EXPIRY, &[&nanos(self.expiry)]);
        if let Some(scopes) = &self.scopes {
            field(tag::SCOPES, &[scopes.as_bytes()]);
        }
        for (name, value) in &self.further {
            field(
                tag::HEADER,
                &[name.as_str().as_bytes(), b":", value.as_bytes()],
            );
        }
    }

    /// The record that these bytes are, if they are one.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut text = None;
        let (mut obtained, mut refresh, mut expiry) = (None, None, None);
        let mut scopes = None;
        let mut further = Vec::new();
        while let Some((&tag, rest)) = bytes.split_first() {
            let (length, rest) = rest.split_first_chunk()?;
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            let (field, rest) = rest.split_at_checked(length)?;
            bytes = rest;
            match tag {
                tag::TEXT => text = Some(Zeroizing::new(str::from_utf8(field).ok()?.to_owned())),
                tag::OBTAINED => obtained = Some(time(field)?),
                tag::REFRESH => refresh = Some(time(field)?),
                tag::EXPIRY => expiry = Some(time(field)?),
                tag::SCOPES => scopes = Some(str::from_utf8(field).ok()?.into()),
                tag::HEADER => further.push(header(field)?),
                _ => return None,
            }
        }
        Some(Self {
            text: text?,
            obtained: obtained?,
            refresh: refresh?,
            expiry: expiry?,
            scopes,
            further,
        })
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("obtained", &self.obtained)
            .field("refresh", &self.refresh)
            .field("expiry", &self.expiry)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

fn header(field: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = field.iter().position(|byte| *byte == b':')?;
    let (name, value) = field.split_at_checked(colon)?;
    let value = Zeroizing::new(value.get(1..)?.to_vec());
    let mut value = HeaderValue::from_maybe_shared(wiped(value)).ok()?;
    value.set_sensitive(true);
    Some((HeaderName::from_bytes(name).ok()?, value))
}

/// Since 1970; what is before that or centuries later is the nearest that there is a number for.
fn nanos(time: SystemTime) -> [u8; 8] {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos())
        .unwrap_or(u64::MAX)
        .to_be_bytes()
}

fn time(field: &[u8]) -> Option<SystemTime> {
    let nanos = u64::from_be_bytes(field.try_into().ok()?);
    UNIX_EPOCH.checked_add(Duration::from_nanos(nanos))
}
