//! What a token is made of: its header value, its times, and what tells it from another.
//!
//! All clones of a token share these.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::clock::{Moment, Nanos};

/// What a token is made of. There may be very many, so they are kept small, and what each hit looks at stands together:
/// that is what has to come from memory.
#[repr(C)]
pub(crate) struct TokenInner {
    pub(super) header: HeaderValue,
    pub(super) extra_headers: Option<Box<ExtraHeaders>>,
    pub(crate) generation: u64,
    pub(crate) times: Times,
    pub(super) scopes: Option<Box<str>>,
    /// How far it is back to the first generation of this slot that had this very text; more than there is room for is that.
    pub(super) same_for: u32,
    pub(super) reason: FetchReason,
    pub(super) origin: TokenOrigin,
}

/// The headers that go with a token; nearly none has any.
pub(super) struct ExtraHeaders(pub(super) Vec<(HeaderName, HeaderValue)>);

impl TokenInner {
    /// The value for `Authorization`, unless there are further headers.
    pub(crate) fn only_header(&self) -> Option<&HeaderValue> {
        self.extra_headers.is_none().then_some(&self.header)
    }

    pub(crate) fn extra_headers(&self) -> &[(HeaderName, HeaderValue)] {
        self.extra_headers
            .as_ref()
            .map_or(&[], |headers| headers.0.as_slice())
    }

    /// Bytes of memory that it holds, for the cache's bound.
    pub(crate) fn weight(&self) -> usize {
        let extra = self
            .extra_headers()
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len());
        size_of::<Self>()
            + self.header.len()
            + self.scopes.as_deref().map_or(0, str::len)
            + extra.sum::<usize>()
    }
}

/// A token's times, on the cache's clock. All but the first are kept as spans: there may be very many tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Times {
    requested_at: Moment,
    refresh: Nanos,
    end: Nanos,
    expiry: Nanos,
}

impl Times {
    /// The times of a token that was asked for then, and these spans later is due for refresh, is no longer sent, expires.
    pub(crate) fn new(
        requested_at: Moment,
        refresh: Duration,
        end: Duration,
        expiry: Duration,
    ) -> Self {
        Self {
            requested_at,
            refresh: refresh.into(),
            end: end.into(),
            expiry: expiry.into(),
        }
    }

    /// Before it was asked for.
    pub(crate) fn requested_at(&self) -> Moment {
        self.requested_at
    }

    /// From here on it is stale: served, and refreshed behind the scenes.
    pub(crate) fn refresh_at(&self) -> Moment {
        self.requested_at + self.refresh
    }

    /// From here on it is not sent any more: a margin before the provider's end.
    pub(crate) fn unusable_at(&self) -> Moment {
        self.requested_at + self.end
    }

    /// The provider's end.
    pub(crate) fn expires_at(&self) -> Moment {
        self.requested_at + self.expiry
    }
}

/// What tells one token of a cache from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenMeta {
    /// Unique in the process, and growing.
    pub(crate) generation: u64,
    /// The first generation of this slot that had this very text: the source may give the same one again.
    pub(crate) same_since: u64,
    /// Why it was fetched.
    pub(crate) reason: FetchReason,
    /// From where.
    pub(crate) origin: TokenOrigin,
}

/// Where a token came from.
///
/// ```
/// assert_eq!(tower_bearer::token::TokenOrigin::Provider.as_str(), "provider");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenOrigin {
    /// From the cache's source.
    Provider,
    /// From the store behind the cache: another process, or an earlier run, asked for it.
    Store,
}

impl TokenOrigin {
    /// The origin's name, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Store => "store",
        }
    }
}

/// Why a token was fetched.
///
/// ```
/// assert_eq!(tower_bearer::token::FetchReason::Stale.as_str(), "stale");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FetchReason {
    /// There was none.
    Missing,
    /// The one there was went past its refresh point.
    Stale,
    /// The one there was expired.
    Expired,
    /// The one there was had been rejected.
    Rejected,
    /// Somebody asked for a new one.
    Forced,
}

impl FetchReason {
    /// The reason's name, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Forced => "forced",
        }
    }
}
