//! Implements [`TokenCache`]: its public methods, and those that the layer uses.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{
    builder::CacheBuilder,
    hit_counters::HitCounter,
    lookup::{self, Lookup},
    shared::{CacheHandle, CacheShared},
    slot::{Need, Rejection, Slot},
    stats::{Entry, Stats, count},
};
use crate::{
    clock::Moment,
    error::TokenError,
    source::{SourceId, TokenProvider, TokenSource},
    telemetry::TokenEvent,
    token::{Token, TokenSpec},
};

/// A cache of the tokens of one source. Clones share the cache.
///
/// For each spec, a fresh token is returned at once. A stale token is also returned at once, and is refreshed in the
/// background. If the token is missing, expired or rejected, all callers wait for the same fetch, which continues if they stop
/// waiting. A failed refresh never replaces a usable token. Without a usable token, callers get the error of the last fetch
/// until the next attempt is due.
///
/// [`AuthLayer`](crate::AuthLayer) uses a cache for HTTP requests. A cache can also be used without HTTP:
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{NewToken, TokenCache, TokenSpec, source};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// let cache = TokenCache::new(source::from_fn(async |request| {
///     // Request a token from your provider here.
///     Ok(NewToken::bearer("abc")?.with_lifetime(Duration::from_secs(3600)))
/// }));
/// let spec = TokenSpec::scopes(["read"]);
///
/// let token = cache.get(&spec).await?;
/// let same = cache.get(&spec).await?;
/// assert_eq!(token.generation(), same.generation());
///
/// // A server rejected the token, so the next call fetches another one.
/// cache.reject(&token);
/// assert_ne!(cache.get(&spec).await?.generation(), token.generation());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TokenCache(Arc<CacheHandle>);

impl TokenCache {
    /// Creates a cache of this source's tokens with the default options of [`CacheBuilder`]. No runtime is required.
    pub fn new(source: impl TokenSource) -> Self {
        Self::builder(source).build()
    }

    /// Returns a builder to configure a cache of this source's tokens.
    pub fn builder(source: impl TokenSource) -> CacheBuilder {
        CacheBuilder::new(source)
    }

    /// Returns a token that can be sent now. Fetches one if the cache has none.
    ///
    /// Dropping the returned future does not cancel the fetch.
    ///
    /// # Errors
    /// Returns an error if there is no usable token and the fetch fails. During the back-off after a failed fetch, the same
    /// error is returned at once, and [`retry_after`](TokenError::retry_after) is the time until the next attempt.
    pub async fn get(&self, spec: &TokenSpec) -> Result<Token, TokenError> {
        let slot = self.slot(spec)?;
        match self.lookup(&slot, Need::Usable) {
            Lookup::Ready(token) => {
                self.count_hit(token.is_stale(self.now()));
                Ok(token)
            }
            Lookup::Wait(waiter) => waiter.wait_as_miss().await,
        }
    }

    /// Fetches a new token, even if the current one is fresh. If a fetch is in progress, waits for its token.
    ///
    /// # Errors
    /// Returns an error if the fetch fails. The current token stays in the cache.
    ///
    /// ```
    /// # use tower_bearer::{NewToken, TokenCache, TokenSpec, source};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// let spec = TokenSpec::default();
    /// let old = cache.get(&spec).await?;
    /// let new = cache.refresh(&spec).await?;
    /// assert!(new.generation() > old.generation());
    /// # Ok(()) }
    /// ```
    pub async fn refresh(&self, spec: &TokenSpec) -> Result<Token, TokenError> {
        let slot = self.slot(spec)?;
        self.lookup(&slot, Need::New).token().await
    }

    /// Returns the current token if it can be sent. Never fetches, and does not count as a use of the entry.
    ///
    /// ```
    /// # use tower_bearer::{NewToken, TokenCache, TokenSpec, source};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// let spec = TokenSpec::default();
    /// assert!(cache.peek(&spec).is_none());
    /// cache.get(&spec).await?;
    /// assert!(cache.peek(&spec).is_some());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn peek(&self, spec: &TokenSpec) -> Option<Token> {
        let token = self.shared().map.peek(spec)?.token()?;
        (!token.times().unusable_at().is_past(self.now())).then_some(token)
    }

    /// Removes this token because a server rejected it, so that the next [`get`](Self::get) fetches another one.
    ///
    /// Returns `true` if the token was removed. A token that has been replaced is ignored, so a late rejection never removes the
    /// newer token. The number of rejections is limited: after five in a row, the current token stays in use, and one more
    /// rejection is accepted every 15 seconds.
    pub fn reject(&self, token: &Token) -> bool {
        let slot = self.shared().map.peek(token.spec());
        let reject = |slot: Arc<Slot>| self.reject_generation(&slot, token.generation(), None);
        slot.map(reject) == Some(Rejection::Applied)
    }

    /// Removes the spec's token and the errors of its fetches. Returns `true` if there was a token.
    ///
    /// A fetch in progress still returns its token to the callers that wait for it, but does not store it.
    ///
    /// ```
    /// # use tower_bearer::{NewToken, TokenCache, TokenSpec, source};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// let spec = TokenSpec::default();
    /// cache.get(&spec).await?;
    /// assert!(cache.remove(&spec));
    /// assert!(!cache.remove(&spec));
    /// # Ok(()) }
    /// ```
    pub fn remove(&self, spec: &TokenSpec) -> bool {
        let shared = self.shared();
        shared
            .map
            .peek(spec)
            .is_some_and(|slot| shared.remove(slot))
    }

    /// Removes all tokens and the errors of all fetches.
    pub fn clear(&self) {
        let shared = self.shared();
        for slot in shared.map.slots() {
            shared.remove(slot);
        }
        *shared.source_backoff() = None;
    }

    /// Fetches the missing tokens of these specs concurrently, so that the first requests don't have to wait. Counts neither hits
    /// nor misses.
    ///
    /// # Errors
    /// Returns an error if any fetch fails: the first one in the order of the specs. The other tokens are fetched nevertheless.
    ///
    /// ```
    /// # use tower_bearer::{NewToken, TokenCache, TokenSpec, source};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// cache.warm([&TokenSpec::scopes(["read"]), &TokenSpec::scopes(["write"])]).await?;
    /// assert_eq!(cache.stats().entries, 2);
    /// # Ok(()) }
    /// ```
    pub async fn warm<'a>(
        &self,
        specs: impl IntoIterator<Item = &'a TokenSpec>,
    ) -> Result<(), TokenError> {
        // Each lookup starts its fetch here. The loop below only collects the results.
        let start = |spec| {
            let lookup = self.slot(spec).map(|slot| self.lookup(&slot, Need::Usable));
            async { lookup?.token().await.map(drop) }
        };
        let fetches: Vec<_> = specs.into_iter().map(start).collect();
        let mut result = Ok(());
        for fetch in fetches {
            result = result.and(fetch.await);
        }
        result
    }

    /// Returns the counters and the current size of the cache.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        let counters = &shared.counters;
        Stats {
            entries: shared.map.len() as u64,
            bytes: shared.map.bytes(),
            hits: counters.hits.sum(),
            misses: counters.misses.load(Relaxed),
            fetches: counters.fetches.load(Relaxed),
            fetch_failures: counters.fetch_failures.load(Relaxed),
            token_requests: counters.token_requests.load(Relaxed),
            rejections: counters.rejections.load(Relaxed),
            rejection_limit_reached: counters.rejection_limit_reached.load(Relaxed),
            replays: counters.replays.load(Relaxed),
            evictions: shared.map.evictions(),
            store_hits: counters.store_hits.load(Relaxed),
            store_misses: counters.store_misses.load(Relaxed),
            store_errors: counters.store_errors.load(Relaxed),
            store_unreadable: counters.store_unreadable.load(Relaxed),
        }
    }

    /// Publishes the numbers of hits, evictions, entries and bytes to the recorder of the `metrics` crate.
    ///
    /// The cache also does this after each fetch. Call it before the metrics are collected.
    ///
    /// ```
    /// # use tower_bearer::{NewToken, TokenCache, source};
    /// # let cache = TokenCache::new(source::from_fn(async |_| NewToken::bearer("abc")));
    /// cache.publish_metrics();
    /// ```
    #[cfg(feature = "metrics")]
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    pub fn publish_metrics(&self) {
        self.shared().publish_metrics();
    }

    /// Returns the state of each entry, in no particular order. The tokens themselves are not included.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let shared = self.shared();
        let now = shared.now();
        let source_error = shared.source_error(now);
        let entry = |slot: &Arc<Slot>| Entry::of(slot, now, source_error.as_ref());
        shared.map.slots().iter().map(entry).collect()
    }
}

/// Methods for the layer.
impl TokenCache {
    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.shared().now()
    }

    #[inline]
    pub(crate) fn now_since(&self, last: Moment) -> Moment {
        self.shared().settings.clock.now_since(last)
    }

    pub(super) fn shared(&self) -> &CacheShared {
        &self.0.shared
    }

    /// Returns the spec's slot, if there is one.
    pub(crate) fn known_slot(&self, spec: &TokenSpec) -> Option<Arc<Slot>> {
        spec.check().ok()?;
        self.shared().map.get(spec)
    }

    /// Returns the spec's slot, and creates it if necessary.
    pub(crate) fn slot(&self, spec: &TokenSpec) -> Result<Arc<Slot>, TokenError> {
        spec.check()?;
        Ok(self.shared().map.get_or_insert(spec, || self.now()))
    }

    /// Returns the token of the slot, or a waiter for it. The caller counts the hit or the miss.
    pub(crate) fn lookup(&self, slot: &Arc<Slot>, need: Need) -> Lookup {
        lookup::lookup(&self.0, slot, need)
    }

    /// Takes the token of this generation out of use. `claims` are those that the server requires of the next token.
    pub(crate) fn reject_generation(
        &self,
        slot: &Slot,
        generation: u64,
        claims: Option<&str>,
    ) -> Rejection {
        let rejection = slot.reject(generation, claims, self.now());
        if rejection == Rejection::Applied {
            count(&self.shared().counters.rejections);
            let spec = slot.spec();
            self.emit(&TokenEvent::Rejected { spec, generation });
        }
        self.report_limit(slot, generation, rejection)
    }

    /// Spends one rejection on the fetch of a token with more scopes, which a server requires instead of the slot's token.
    pub(crate) fn spend_on_scopes(
        &self,
        slot: &Slot,
        generation: u64,
        wider: &TokenSpec,
    ) -> Rejection {
        let rejection = slot.spend_on_scopes(generation, wider, self.now());
        self.report_limit(slot, generation, rejection)
    }

    fn report_limit(&self, slot: &Slot, generation: u64, rejection: Rejection) -> Rejection {
        if let Rejection::LimitReached { first } = rejection {
            count(&self.shared().counters.rejection_limit_reached);
            self.emit(&TokenEvent::RejectionLimitReached {
                spec: slot.spec(),
                generation,
                first,
            });
        }
        rejection
    }

    pub(crate) fn emit(&self, event: &TokenEvent<'_>) {
        self.shared().settings.telemetry.emit(event);
    }

    pub(crate) fn count_hit(&self, stale: bool) {
        self.shared().counters.hit(stale);
    }

    /// Counts the stale one of the hits that a handle counts itself.
    #[cold]
    pub(crate) fn count_stale_hit(&self) {
        count(&self.shared().counters.stale_hits);
    }

    pub(crate) fn hit_counter(&self) -> HitCounter {
        self.shared().counters.hits.borrow()
    }

    pub(crate) fn count_replay(&self) {
        count(&self.shared().counters.replays);
    }
}

impl CacheBuilder {
    /// Creates the cache. No task is started and no runtime is required until a token is fetched.
    #[must_use]
    pub fn build(self) -> TokenCache {
        TokenCache(Arc::new(CacheHandle::new(self)))
    }
}

impl TokenProvider for TokenCache {
    async fn token(&self, spec: &TokenSpec) -> Result<Token, TokenError> {
        self.get(spec).await
    }

    fn source_id(&self) -> Option<SourceId> {
        self.shared().source.source_id_of()
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache")
            .field("settings", &self.shared().settings)
            .field("stats", &self.stats())
            .finish()
    }
}
