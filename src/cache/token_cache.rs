//! [`TokenCache`]: the cache's public methods, and those that the layer uses.

use std::{fmt, sync::Arc};

use super::{
    builder::CacheBuilder,
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

/// A shared cache over one source. A clone shares it.
///
/// For each spec: a fresh token is served; a stale one is served and refreshed behind the scenes; for an expired or
/// rejected one all callers wait for one and the same fetch, which goes on when they give up. A failed refresh never
/// displaces a token that still serves, and without one the callers get the remembered error until the next try is due.
///
/// The layer uses it, and it is of use without HTTP too.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::{NewToken, TokenCache, TokenSpec, source};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// let cache = TokenCache::new(source::from_fn(async |request| {
///     // Ask your provider here.
///     Ok(NewToken::bearer("abc")?.with_lifetime(Duration::from_secs(3600)))
/// }));
/// let spec = TokenSpec::scopes(["read"]);
///
/// let token = cache.get(&spec).await?;
/// let same = cache.get(&spec).await?;
/// assert_eq!(token.generation(), same.generation());
///
/// // A server refused it: the next one is another.
/// cache.reject(&token);
/// assert_ne!(cache.get(&spec).await?.generation(), token.generation());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TokenCache(pub(super) Arc<CacheHandle>);

impl TokenCache {
    /// A cache over this source, with the defaults of [`builder`](Self::builder). Needs no runtime.
    pub fn new(source: impl TokenSource) -> Self {
        Self::builder(source).build()
    }

    /// Options first: bounds, timeouts, clock.
    pub fn builder(source: impl TokenSource) -> CacheBuilder {
        CacheBuilder::new(source)
    }

    /// A token that can be sent now, fetched if there is none.
    ///
    /// A caller that gives up early ends its own wait and nothing else.
    ///
    /// # Errors
    /// There is no token and none could be fetched, or the provider is left alone after such a failure:
    /// then the error comes at once, and [`retry_after`](TokenError::retry_after) says how long it will.
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

    /// A token that is fetched now, however good the one in service is; who asks while one is fetched shares it.
    ///
    /// # Errors
    /// None could be fetched. The one in service stays.
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

    /// The token in service, if it can be sent. Nothing is fetched, and it does not count as a use.
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

    /// Takes exactly this token out of service, because a server refused it. The next [`get`](Self::get) fetches another.
    ///
    /// It answers whether that changed anything. A token that has been replaced already costs nothing, so a late refusal
    /// never costs the new one; nor does one too many: after five in short order the token stays until the refusals end.
    pub fn reject(&self, token: &Token) -> bool {
        let Some(slot) = self.shared().map.peek(token.spec()) else {
            return false;
        };
        self.reject_generation(&slot, token.generation(), None) == Rejection::Applied
    }

    /// Forgets the spec's token, and the failures to get one. It answers whether there was a token.
    ///
    /// What is being fetched goes to those who wait for it and not into the cache.
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

    /// Forgets every token, and every failure to get one.
    pub fn clear(&self) {
        let shared = self.shared();
        for slot in shared.map.slots() {
            shared.remove(slot);
        }
        *shared.source_backoff() = None;
    }

    /// Fetches what is missing, all at once, so that the first requests find their tokens. It counts as no hit and no miss.
    ///
    /// # Errors
    /// The first failure in the order of the specs; all of them are tried nevertheless.
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
        let look_up = |spec| Ok(self.lookup(&self.slot(spec)?, Need::Usable));
        let lookups: Vec<Result<Lookup, TokenError>> = specs.into_iter().map(look_up).collect();
        let mut first_error = Ok(());
        for lookup in lookups {
            let result = match lookup {
                Ok(lookup) => lookup.token().await,
                Err(error) => Err(error),
            };
            first_error = first_error.and(result.map(drop));
        }
        first_error
    }

    /// What the cache has done so far, and holds now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
        let shared = self.shared();
        let counters = &shared.counters;
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        Stats {
            entries: shared.map.len() as u64,
            bytes: shared.map.bytes(),
            hits: counters.hits(),
            misses: read(&counters.misses),
            fetches: read(&counters.fetches),
            fetch_failures: read(&counters.fetch_failures),
            token_requests: read(&counters.token_requests),
            rejections: read(&counters.rejections),
            rejection_limit_reached: read(&counters.rejection_limit_reached),
            replays: read(&counters.replays),
            evictions: shared.map.evictions(),
            store_hits: read(&counters.store_hits),
            store_misses: read(&counters.store_misses),
            store_errors: read(&counters.store_errors),
            store_unreadable: read(&counters.store_unreadable),
        }
    }

    /// Tells the recorder of the `metrics` crate what is counted on the way: hits, evictions, entries and bytes.
    ///
    /// That happens after each fetch too. Call it before a scrape.
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

    /// What the cache knows, spec by spec, in no order. No token is in it.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let shared = self.shared();
        let now = shared.now();
        let source_error = shared.source_error(now);
        let entry = |slot: &Arc<Slot>| Entry::of(slot, now, source_error.as_ref());
        shared.map.slots().iter().map(entry).collect()
    }
}

/// What the layer needs beyond what users call.
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

    /// The spec's slot, if there is one.
    pub(crate) fn known_slot(&self, spec: &TokenSpec) -> Option<Arc<Slot>> {
        spec.check().ok()?;
        self.shared().map.get(spec)
    }

    /// The spec's slot, made if there is none.
    pub(crate) fn slot(&self, spec: &TokenSpec) -> Result<Arc<Slot>, TokenError> {
        spec.check()?;
        Ok(self.shared().map.get_or_insert(spec, self.now()))
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

    /// Pays for the fetch of a token with the wider spec, which a server requires instead of the slot's.
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

    pub(crate) fn count_replay(&self) {
        count(&self.shared().counters.replays);
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
