//! Counters, and what an operator sees of a cache.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use super::{
    freshness::{self, Freshness},
    slot::Slot,
};
use crate::{
    clock::Moment,
    error::TokenError,
    token::{Token, TokenOrigin, TokenSpec},
};

/// What a cache has done so far, and holds now.
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
    /// Specs that the cache knows.
    pub entries: u64,
    /// Bytes that they hold, about.
    pub bytes: u64,
    /// Answers without waiting.
    pub hits: u64,
    /// Answers that waited.
    pub misses: u64,
    /// Flights to the provider that were started.
    pub fetches: u64,
    /// Flights that brought nothing.
    pub fetch_failures: u64,
    /// Token requests: a flight may make several attempts.
    pub token_requests: u64,
    /// Tokens taken out of service because a server refused them.
    pub rejections: u64,
    /// Rejections that were not believed: too many lately.
    pub rejection_limit_reached: u64,
    /// Requests sent a second time.
    pub replays: u64,
    /// Entries that gave way to others.
    pub evictions: u64,
    /// Tokens taken from the store behind the cache. Without one, this and the following stay zero.
    pub store_hits: u64,
    /// Flights that found none there that would do, and went on to the provider.
    pub store_misses: u64,
    /// What the store was asked and did not do. While it is left alone for that, it is not asked.
    pub store_errors: u64,
    /// Values of the store that could not be opened: damaged, or sealed with a key that is not in the ring.
    pub store_unreadable: u64,
}

/// How a spec's token stands.
///
/// ```
/// assert_eq!(tower_bearer::cache::EntryState::BackingOff.as_str(), "backing_off");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EntryState {
    /// It is served.
    Fresh,
    /// It is served, and another is due.
    Stale,
    /// There is none that could be served.
    Expired,
    /// There is none, and the provider is left alone for a while.
    BackingOff,
    /// It was rejected too often lately: it is served, and 401s pass.
    RejectionLimitReached,
}

impl EntryState {
    /// The state's name in snake_case.
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

/// One spec of a cache, and how its token stands. It holds no token.
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
    /// What is asked for, with the scopes that servers wanted beside those of the key.
    pub spec: TokenSpec,
    /// How its token stands.
    pub state: EntryState,
    /// What is left of the token by the provider's word.
    pub expires_in: Option<Duration>,
    /// What is left until it is due for refresh.
    pub refresh_in: Option<Duration>,
    /// The token's generation.
    pub generation: Option<u64>,
    /// Where the token came from.
    pub origin: Option<TokenOrigin>,
    /// The last fetch's error, if it failed.
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

/// What is counted while the cache works.
#[derive(Default)]
pub(crate) struct Counters {
    hits: StripedCounter,
    /// Those of all hits that were served a stale token, while another was on its way.
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

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Counters {
    #[inline]
    pub(super) fn hit(&self, stale: bool) {
        if stale {
            count(&self.stale_hits);
        }
        count(self.hits.of_this_thread());
    }

    /// The number of hits that all threads have counted.
    pub(super) fn hits(&self) -> u64 {
        self.hits.sum()
    }
}

/// One counter in several, so that threads seldom share a cache line.
#[derive(Default)]
struct StripedCounter([CacheLine; Self::COUNT]);

impl StripedCounter {
    const COUNT: usize = 8;

    #[inline]
    fn of_this_thread(&self) -> &AtomicU64 {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
        }
        let number = NUMBER.get().unwrap_or_else(|| {
            let number = THREADS.fetch_add(1, Relaxed);
            NUMBER.set(Some(number));
            number
        });
        let [first, ..] = &self.0;
        &self.0.get(number % Self::COUNT).unwrap_or(first).0
    }

    fn sum(&self) -> u64 {
        self.0.iter().map(|stripe| stripe.0.load(Relaxed)).sum()
    }
}

/// On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct CacheLine(AtomicU64);
