//! Counts what a cache does, and describes its entries for operators.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{
    freshness::{self, Freshness},
    hit_counters::HitCounters,
    slot::Slot,
};
use crate::{
    clock::Moment,
    error::TokenError,
    token::{Token, TokenOrigin, TokenSpec},
};

/// The counters and the current size of a cache. Returned by [`TokenCache::stats`](crate::TokenCache::stats).
///
/// ```
/// use tower_bearer::{NewToken, TokenCache, TokenSpec, source};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
/// for _ in 0..3 {
///     cache.get(&TokenSpec::default()).await?;
/// }
/// let stats = cache.stats();
/// assert_eq!((stats.misses, stats.fetches, stats.hits), (1, 1, 2));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The number of entries.
    pub entries: u64,
    /// The approximate size of all entries in bytes.
    pub bytes: u64,
    /// Requests for a token that did not have to wait.
    pub hits: u64,
    /// Requests for a token that had to wait.
    pub misses: u64,
    /// Fetches from the provider that were started.
    pub fetches: u64,
    /// Fetches that failed.
    pub fetch_failures: u64,
    /// Token requests to the provider. A fetch may make several.
    pub token_requests: u64,
    /// Tokens that were removed because a server rejected them.
    pub rejections: u64,
    /// Rejections that were ignored because there were too many.
    pub rejection_limit_reached: u64,
    /// Requests that were sent again with another token.
    pub replays: u64,
    /// Entries that were removed because they had expired or the cache was full.
    pub evictions: u64,
    /// Tokens that were loaded from the store. Without a store, this and the following counters stay zero.
    pub store_hits: u64,
    /// Fetches that found no usable token in the store and asked the provider.
    pub store_misses: u64,
    /// Calls of the store that failed. During an outage, the store is rarely called.
    pub store_errors: u64,
    /// Values in the store that could not be decrypted, because they are damaged or their key is not in the ring.
    pub store_unreadable: u64,
}

/// The state of a cache's [`Entry`].
///
/// ```
/// assert_eq!(tower_bearer::cache::EntryState::BackingOff.as_str(), "backing_off");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EntryState {
    /// The token is used.
    Fresh,
    /// The token is used, and is due for refresh.
    Stale,
    /// There is no usable token. The next request fetches one.
    Expired,
    /// There is no usable token, and none is requested until the back-off ends.
    BackingOff,
    /// The token was rejected too often. It is used, and 401 responses are returned to the caller.
    RejectionLimitReached,
}

impl EntryState {
    /// Returns the state's name, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::BackingOff => "backing_off",
            Self::RejectionLimitReached => "storm",
        }
    }
}

/// The state of one spec's token in a cache. Returned by [`TokenCache::entries`](crate::TokenCache::entries).
///
/// ```
/// use tower_bearer::{NewToken, cache::EntryState, TokenCache, TokenSpec, source};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
/// cache.get(&TokenSpec::scopes(["read"])).await?;
/// let entries = cache.entries();
/// assert_eq!(entries[0].state, EntryState::Fresh);
/// assert_eq!(entries[0].spec, TokenSpec::scopes(["read"]));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The spec.
    pub spec: TokenSpec,
    /// The state of the token.
    pub state: EntryState,
    /// The time until the token expires.
    pub expires_in: Option<Duration>,
    /// The time until the token is due for refresh.
    pub refresh_in: Option<Duration>,
    /// The [generation](Token::generation) of the token.
    pub generation: Option<u64>,
    /// The origin of the token.
    pub origin: Option<TokenOrigin>,
    /// The error of the last fetch, if it failed.
    pub last_error: Option<TokenError>,
}

impl Entry {
    pub(super) fn of(slot: &Slot, now: Moment, source_error: Option<&TokenError>) -> Self {
        let slot_state = slot.state();
        let token = slot.token();
        let times = token.as_ref().map(|token| *token.times());
        let is_backing_off = source_error.is_some() || slot_state.backoff_error(now).is_some();
        let state = match times.map(|times| freshness::classify(&times, now)) {
            Some(Freshness::Fresh | Freshness::Stale) if slot_state.rejections_left(now) == 0 => {
                EntryState::RejectionLimitReached
            }
            Some(Freshness::Fresh) => EntryState::Fresh,
            Some(Freshness::Stale) => EntryState::Stale,
            _ if is_backing_off => EntryState::BackingOff,
            _ => EntryState::Expired,
        };
        Self {
            spec: slot.spec().clone(),
            state,
            expires_in: times.map(|times| times.expires_at().remaining(now)),
            refresh_in: times.map(|times| times.refresh_at().remaining(now)),
            generation: token.as_ref().map(Token::generation),
            origin: token.as_ref().map(Token::origin),
            last_error: slot_state.last_error().or(source_error).cloned(),
        }
    }
}

/// The counters of a cache.
#[derive(Default)]
pub(crate) struct Counters {
    pub(super) hits: HitCounters,
    /// The hits that returned a stale token.
    pub(super) stale_hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) fetches: AtomicU64,
    pub(super) fetch_failures: AtomicU64,
    pub(super) token_requests: AtomicU64,
    pub(super) rejections: AtomicU64,
    pub(super) rejection_limit_reached: AtomicU64,
    pub(super) replays: AtomicU64,
    pub(super) store_hits: AtomicU64,
    pub(super) store_misses: AtomicU64,
    pub(super) store_errors: AtomicU64,
    pub(super) store_unreadable: AtomicU64,
}

/// Adds one to the counter.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Counters {
    pub(super) fn hit(&self, stale: bool) {
        if stale {
            count(&self.stale_hits);
        }
        self.hits.count();
    }
}
