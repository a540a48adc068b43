//! Implements [`CacheBuilder`], with the default of each option.

use std::{fmt, sync::Arc, time::Duration};

#[cfg(feature = "store")]
use crate::store::{EncryptedStore, KeyRing, TokenStore};
use crate::{
    clock::Clock,
    source::{SharedSource, TokenSource},
    telemetry::{Telemetry, TokenEvents},
};

/// Builder of a [`TokenCache`](crate::TokenCache). Returned by [`TokenCache::builder`](crate::TokenCache::builder).
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
#[must_use = "call `build` to create the cache"]
pub struct CacheBuilder {
    pub(super) source: SharedSource,
    pub(super) settings: Settings,
    #[cfg(feature = "store")]
    pub(super) store: Option<EncryptedStore>,
    #[cfg(feature = "store")]
    pub(super) namespace: Option<Box<str>>,
}

/// The options that a cache stores.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_entries: usize,
    pub(super) max_bytes: u64,
    pub(super) max_fetches: usize,
    pub(super) fetch_timeout: Duration,
    pub(super) assumed_lifetime: Duration,
    pub(super) idle_time: Duration,
    pub(super) clock: Clock,
    pub(super) telemetry: Telemetry,
}

impl CacheBuilder {
    pub(super) fn new(source: impl TokenSource) -> Self {
        Self {
            source: Arc::new(source),
            settings: Settings {
                max_entries: 10_000,
                max_bytes: 64 << 20,
                max_fetches: 32,
                fetch_timeout: Duration::from_secs(10),
                assumed_lifetime: Duration::from_secs(5 * 60),
                idle_time: Duration::from_secs(60),
                clock: Clock::system(),
                telemetry: Telemetry::default(),
            },
            #[cfg(feature = "store")]
            store: None,
            #[cfg(feature = "store")]
            namespace: None,
        }
    }

    /// Sets the maximum number of entries. Entries in use are never evicted. Default: 10,000.
    pub fn with_max_entries(mut self, entries: usize) -> Self {
        self.settings.max_entries = entries;
        self
    }

    /// Sets the approximate maximum size of all entries in bytes. Default: 64 MiB.
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.settings.max_bytes = bytes;
        self
    }

    /// Sets the maximum number of concurrent fetches, at least 1. Default: 32.
    pub fn with_max_fetches(mut self, fetches: usize) -> Self {
        self.settings.max_fetches = fetches.max(1);
        self
    }

    /// Sets the timeout of a fetch, including all its attempts: at least one millisecond. Default: 10 seconds.
    pub fn with_fetch_timeout(mut self, timeout: Duration) -> Self {
        self.settings.fetch_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// Sets the lifetime of tokens whose provider sends none. Default: 5 minutes.
    pub fn with_assumed_lifetime(mut self, lifetime: Duration) -> Self {
        self.settings.assumed_lifetime = lifetime;
        self
    }

    /// Sets the minimum time for which an expired token stays in memory if it is not requested. Default: 1 minute.
    pub fn with_idle_time(mut self, time: Duration) -> Self {
        self.settings.idle_time = time;
        self
    }

    /// Sets the clock. Default: [`Clock::system`].
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Sets a listener for cache events. By default, events are only logged.
    pub fn with_events(mut self, events: impl TokenEvents) -> Self {
        self.settings.telemetry = Telemetry::with_listener(events);
        self
    }
}

#[cfg(feature = "store")]
impl CacheBuilder {
    /// Adds a store as the second level of the cache. Its tokens outlive the process, and can be shared by several processes. Default:
    /// none.
    ///
    /// A token that is not in the cache is looked up in the store before the provider is asked. Each fetched token is
    /// saved in the store, encrypted with the first key of the ring. Among the processes that share a store, one fetches
    /// and the others load its token: the fetch requires a lease in the store. The store does not make a hit more expensive.
    ///
    /// | event | effect |
    /// |---|---|
    /// | the process starts, or another process has fetched a token | the token is loaded from the store: [`TokenOrigin::Store`](crate::token::TokenOrigin::Store) |
    /// | several processes need the same missing token | one fetches it; the others read the store again every 20 to 250 ms |
    /// | the process with the lease dies | another one acquires the lease when it expires, after two fifths of the fetch timeout (at most 15 s) |
    /// | there is no token after half of the fetch timeout | each waiting process asks the provider itself |
    /// | a token is due for refresh | one process fetches; the others keep using the old token, read the store about every second, and use the new token once it is there |
    /// | a server rejects a token | the token is deleted from the store if it is still there, and this process never loads it again |
    /// | the store fails or does not respond | requests don't fail: the cache works without the store and tries it again later; a refresh waits for the store during the first half of the time that is left for it |
    /// | a value in the store can't be decrypted | it is treated as missing, and is replaced |
    ///
    /// A read waits at most 250 ms, and a write at most one second. After a failure, the store is not called for 250 ms, and
    /// for up to 8 s after repeated failures; then one fetch tries it. At the start of the process, a store that responds slowly is
    /// tried for half a second. An outage is logged once, at level `WARN`, and its end at level `INFO`.
    ///
    /// A loaded token keeps its times. They were measured with the wall clock of the process that fetched it. If the clocks differ,
    /// the token is used until its expiry on the local clock, and never for longer than its lifetime.
    ///
    /// The keys of the store contain the source's [`source_id`](crate::TokenSource::source_id) and the whole spec. A source
    /// without an identity, such as a closure, requires a [namespace](Self::with_store_namespace).
    /// [`refresh`](crate::TokenCache::refresh) never returns a token that was in the store before the call. After
    /// [`remove`](crate::TokenCache::remove), this process does not load the removed token again.
    ///
    /// ```
    /// use tower_bearer::{NewToken, token::TokenOrigin, Secret, TokenCache, TokenSpec, source};
    /// use tower_bearer::store::{KeyRing, MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
    /// // All replicas use the same store, for example a `RedisStore`, and the same key.
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
        self.store = Some(EncryptedStore::new(store, ring));
        self
    }

    /// Sets a namespace that separates this cache's tokens from those of other caches in the same store. Default: none.
    ///
    /// It is required if the source has no [identity](crate::TokenSource::source_id): otherwise each fetch returns an error. It
    /// must be the same in all processes whose sources return the same tokens, and different in all others.
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
