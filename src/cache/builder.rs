//! How a cache is set up, and every default.

use std::{fmt, sync::Arc, time::Duration};

#[cfg(feature = "store")]
use crate::store::{EncryptedStore, KeyRing, TokenStore};
use crate::{
    clock::Clock,
    source::{SharedSource, TokenSource},
    telemetry::{Telemetry, TokenEvents},
};

/// A [`TokenCache`](crate::TokenCache) under construction.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{NewToken, TokenCache, source};
///
/// let source = source::from_fn(async |_| NewToken::bearer("abc"));
/// let cache = TokenCache::builder(source)
///     .with_max_entries(100)
///     .with_fetch_timeout(Duration::from_secs(3))
///     .build();
/// # let _ = cache;
/// ```
#[must_use = "nothing is cached before `build`"]
pub struct CacheBuilder {
    pub(super) source: SharedSource,
    pub(super) settings: Settings,
    #[cfg(feature = "store")]
    pub(super) vault: Option<EncryptedStore>,
    #[cfg(feature = "store")]
    pub(super) namespace: Option<Box<str>>,
}

/// What a cache keeps of its options.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_entries: usize,
    pub(super) max_bytes: u64,
    pub(super) max_flights: usize,
    pub(super) fetch_timeout: Duration,
    pub(super) assumed_lifetime: Duration,
    pub(super) idle_time: Duration,
    pub(super) clock: Clock,
    pub(super) telemetry: Telemetry,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_entries: 10_000,
            max_bytes: 64 << 20,
            max_flights: 32,
            fetch_timeout: Duration::from_secs(10),
            assumed_lifetime: Duration::from_secs(5 * 60),
            idle_time: Duration::from_secs(60),
            clock: Clock::system(),
            telemetry: Telemetry::default(),
        }
    }
}

impl CacheBuilder {
    pub(super) fn new(source: impl TokenSource) -> Self {
        Self {
            source: Arc::new(source),
            settings: Settings::default(),
            #[cfg(feature = "store")]
            vault: None,
            #[cfg(feature = "store")]
            namespace: None,
        }
    }

    /// How many specs it knows at most, apart from those in use. Default: 10,000.
    pub fn with_max_entries(mut self, entries: usize) -> Self {
        self.settings.max_entries = entries;
        self
    }

    /// How many bytes it holds at most, about. Default: 64 MiB.
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.settings.max_bytes = bytes;
        self
    }

    /// How many fetches run at once at most. Default: 32.
    pub fn with_max_fetches(mut self, flights: usize) -> Self {
        self.settings.max_flights = flights.max(1);
        self
    }

    /// How long a fetch may take, all its attempts together: a millisecond at least. Default: 10 seconds.
    pub fn with_fetch_timeout(mut self, timeout: Duration) -> Self {
        self.settings.fetch_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// How long a token lives whose provider does not say. Default: 5 minutes.
    pub fn with_assumed_lifetime(mut self, lifetime: Duration) -> Self {
        self.settings.assumed_lifetime = lifetime;
        self
    }

    /// How long after its end a token that nobody asks for keeps its memory, at least. Default: 1 minute.
    pub fn with_idle_time(mut self, time: Duration) -> Self {
        self.settings.idle_time = time;
        self
    }

    /// Where it reads the time. Default: [`Clock::system`].
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Who is told what happens. Default: nobody but the log.
    pub fn with_events(mut self, events: impl TokenEvents) -> Self {
        self.settings.telemetry = Telemetry::with_hook(events);
        self
    }
}

#[cfg(feature = "store")]
impl CacheBuilder {
    /// A second level behind the cache, which outlives the process or is shared by many. Default: none.
    ///
    /// Where this cache has no token, it looks there before it asks the provider; and what it fetches, it puts there, sealed with
    /// the first key of the ring. Of a fleet that shares a store, one process fetches and the others take what it got: the right
    /// to fetch is a lease in the store. A hit costs what it costs without a store.
    ///
    /// | when | what happens |
    /// |---|---|
    /// | the process starts anew, or another has fetched already | the token comes from the store: [`TokenOrigin::Store`](crate::token::TokenOrigin::Store) |
    /// | all start at once, and there is none | one fetches; the others look again every 20 to 250 ms |
    /// | who fetches dies meanwhile | another takes its place when the lease ends, after two fifths of the fetch timeout (at most 15 s) |
    /// | nothing has come after half of the fetch timeout | whoever waits asks the provider by itself |
    /// | a token is due for refresh | one fetches; the others serve the old one, look again about every second, and take the new one |
    /// | a server refuses a token | it leaves the store if it is still the one in there, and this process never takes it from there again |
    /// | the store fails, hangs, or refuses to write | nobody notices but the operator: the cache does without, and tries again by itself; a refresh waits for it for half of the time that there is |
    /// | what is in the store can't be opened | it counts as nothing, and is replaced |
    ///
    /// The store's answers are waited for 250 ms at most when it is read, a second when it is written to; after a failure it is
    /// left alone for 250 ms at first and 8 s at last, and then one flight tries it. A process that starts tries a store that is slow to
    /// answer for half a second. That it failed is logged once, at `WARN`, and
    /// that it is back, at `INFO`.
    ///
    /// A token from the store keeps its times. They are of the wall clock of whoever fetched it: where clocks differ, it
    /// lives until its expiry by one's own clock, and no longer than it was given.
    ///
    /// Tokens are told apart by the source's [`source_id`](crate::TokenSource::source_id) and by all that is asked for. A source
    /// without an identity, such as a closure, needs a [namespace](Self::with_store_namespace).
    /// [`refresh`](crate::TokenCache::refresh) takes nothing that was there when it was called, and
    /// [`remove`](crate::TokenCache::remove) makes this process take that token from the store no more.
    ///
    /// ```
    /// use tower_bearer::{NewToken, token::TokenOrigin, Secret, TokenCache, TokenSpec, source};
    /// use tower_bearer::store::{KeyRing, MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
    /// // Of all replicas the same: a `RedisStore`, say, and a key from wherever secrets come from.
    /// let store = MemoryStore::new();
    /// let ring = KeyRing::new(Secret::new("0nF2ql0S7ivVYJz7IXgbRLHwlGAd0Vg5LGn6i3tGqzE="))?;
    /// let replica = || {
    ///     let source = source::from_fn(async |_| NewToken::bearer("abc"));
    ///     TokenCache::builder(source)
    ///         .with_store(store.clone(), ring.clone())
    ///         .with_store_namespace("orders")
    ///         .build()
    /// };
    ///
    /// let spec = TokenSpec::scopes(["read"]);
    /// assert_eq!(replica().get(&spec).await?.origin(), TokenOrigin::Provider);
    /// let second = replica();
    /// assert_eq!(second.get(&spec).await?.origin(), TokenOrigin::Store);
    /// assert_eq!(second.stats().token_requests, 0);
    /// # Ok(()) }
    /// ```
    #[cfg_attr(docsrs, doc(cfg(feature = "store")))]
    pub fn with_store(mut self, store: impl TokenStore, ring: KeyRing) -> Self {
        self.vault = Some(EncryptedStore::new(store, ring));
        self
    }

    /// Keeps this cache's tokens apart from those of others in the same store. Default: none, which will do where the source
    /// has an [identity](crate::TokenSource::source_id).
    ///
    /// A source without an identity needs it: then it must be the same for all processes whose sources give the same tokens,
    /// and for none else. Without, a fetch ends with an error that says so.
    #[cfg_attr(docsrs, doc(cfg(feature = "store")))]
    pub fn with_store_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into().into_boxed_str());
        self
    }
}

impl fmt::Debug for CacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
