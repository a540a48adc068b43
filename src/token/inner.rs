//! Defines [`TokenInner`], the data that all clones of a token share: its header value, its times and its metadata.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::clock::{Moment, Nanos};

/// The data of a token. A cache may have very many, so the struct is small. The fields that each hit reads come first, so that
/// they share a cache line.
#[repr(C)]
pub(crate) struct TokenInner {
    pub(super) header: HeaderValue,
    pub(super) extra_headers: Option<Box<ExtraHeaders>>,
    pub(crate) generation: u64,
    pub(crate) times: Times,
    pub(super) scopes: Option<Box<str>>,
    /// The number of generations since the slot first had a token with this text, saturating.
    pub(super) same_for: u32,
    pub(super) reason: FetchReason,
    pub(super) origin: TokenOrigin,
}

/// The headers that are sent in addition to `Authorization`. Few tokens have any, so they are boxed.
pub(super) struct ExtraHeaders(pub(super) Vec<(HeaderName, HeaderValue)>);

impl TokenInner {
    /// Returns the value of `Authorization`, unless there are extra headers.
    pub(crate) fn only_header(&self) -> Option<&HeaderValue> {
        self.extra_headers.is_none().then_some(&self.header)
    }

    pub(crate) fn extra_headers(&self) -> &[(HeaderName, HeaderValue)] {
        self.extra_headers
            .as_ref()
            .map_or(&[], |headers| headers.0.as_slice())
    }

    /// Returns the size of the token in bytes, for the cache's bound.
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

/// A token's times on the cache's clock. All but the first are stored as durations, which are smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Times {
    requested_at: Moment,
    refresh: Nanos,
    end: Nanos,
    expiry: Nanos,
}

impl Times {
    /// Creates the times of a token that was requested at `requested_at`, and is due for refresh, unusable and expired after these
    /// durations.
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

    /// Returns when the token was requested.
    pub(crate) fn requested_at(&self) -> Moment {
        self.requested_at
    }

    /// Returns when the token becomes stale: it is still sent, and refreshed in the background.
    pub(crate) fn refresh_at(&self) -> Moment {
        self.requested_at + self.refresh
    }

    /// Returns when the token becomes unusable: it is no longer sent, because it expires soon.
    pub(crate) fn unusable_at(&self) -> Moment {
        self.requested_at + self.end
    }

    /// Returns when the token expires.
    pub(crate) fn expires_at(&self) -> Moment {
        self.requested_at + self.expiry
    }
}

/// The metadata that the cache adds to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenMeta {
    /// A number that is unique in the process and larger than those of earlier tokens.
    pub(crate) generation: u64,
    /// The first generation of the slot with the same text, because a source may return the same token again.
    pub(crate) same_since: u64,
    pub(crate) reason: FetchReason,
    pub(crate) origin: TokenOrigin,
}

/// Whether a token came from the provider or from a store. Returned by [`Token::origin`](crate::Token::origin).
///
/// ```
/// assert_eq!(tower_bearer::token::TokenOrigin::Provider.as_str(), "provider");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenOrigin {
    /// The cache's source fetched the token from the provider.
    Provider,
    /// The token was loaded from the store, where another process or an earlier run has saved it.
    Store,
}

impl TokenOrigin {
    /// Returns the origin's name, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Store => "store",
        }
    }
}

/// The reason why a token was fetched. Returned by [`Token::reason`](crate::Token::reason).
///
/// ```
/// assert_eq!(tower_bearer::token::FetchReason::Stale.as_str(), "stale");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FetchReason {
    /// There was no token.
    Missing,
    /// The current token was due for refresh.
    Stale,
    /// The current token had expired.
    Expired,
    /// The current token had been rejected.
    Rejected,
    /// The caller requested a new token with [`TokenCache::refresh`](crate::TokenCache::refresh).
    Forced,
}

impl FetchReason {
    /// Returns the reason's name, for logs and metrics.
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
