//! [`TokenCache`]: what users call, and what the layer stands on.

use std::{fmt, pin::Pin, sync::Arc};

use super::{
    builder::CacheBuilder,
    fetch,
    required_claims::Wish,
    shared::Core,
    slot::{Outcome, Rejection, Slot},
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
pub struct TokenCache(Arc<Core>);

/// The wait for a token, with a handle of its own: it keeps the fetch alive when all others are gone.
pub(crate) type Waiting = Pin<Box<dyn Future<Output = Outcome> + Send>>;

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
        let now = self.now();
        let slot = match self.0.works.map.get(spec) {
            Some(slot) => slot,
            None => self.slot(spec)?,
        };
        // The caller's own spec goes with it, whose count of references is more likely theirs alone than the slot's.
        if let Some(token) = slot.usable(now) {
            self.count_hit(token.is_stale(now));
            return Ok(Token::new(token, spec.clone()));
        }
        if let Some(token) = self.without_waiting(&slot, now) {
            self.count_hit(token.is_stale(now));
            return Ok(token);
        }
        fetch::wait_as_a_miss(&self.0, &slot).await
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
        fetch::wait_anew(&self.0, &slot).await
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
        let token = self.0.works.map.peek(spec)?.token()?;
        (!token.times().end().is_past(self.now())).then_some(token)
    }

    /// Takes exactly this token out of service, because a server refused it. The next [`get`](Self::get) fetches another.
    ///
    /// It answers whether that changed anything. A token that has been replaced already costs nothing, so a late refusal
    /// never costs the new one; nor does one too many: after five in short order the token stays until the refusals end.
    pub fn reject(&self, token: &Token) -> bool {
        let Some(slot) = self.0.works.map.peek(token.spec()) else {
            return false;
        };
        self.reject_generation(&slot, token.generation(), None) == Rejection::Dropped
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
        let works = &self.0.works;
        if let Some(slot) = works.map.peek(spec) {
            works.disown(&slot);
        }
        works.map.remove(spec)
    }

    /// Forgets every token, and every failure to get one.
    pub fn clear(&self) {
        let works = &self.0.works;
        if works.has_store() {
            works.map.slots().iter().for_each(|slot| works.disown(slot));
        }
        works.map.clear();
        works.forget_hold();
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
        let slots: Vec<_> = specs.into_iter().map(|spec| self.slot(spec)).collect();
        let now = self.now();
        for slot in slots.iter().flatten() {
            // Each starts its own fetch here; the waits below only collect what they bring.
            let _ = self.without_waiting(slot, now);
        }
        let mut first = Ok(());
        for slot in slots {
            let outcome = match slot {
                Ok(slot) => fetch::wait(&self.0, &slot).await.map(drop),
                Err(error) => Err(error),
            };
            first = first.and(outcome);
        }
        first
    }

    /// What the cache has done so far, and holds now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
        let works = &self.0.works;
        let counters = &works.counters;
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        Stats {
            entries: works.map.len() as u64,
            bytes: works.map.bytes(),
            hits: counters.hits(),
            misses: read(&counters.misses),
            fetches: read(&counters.fetches),
            fetch_failures: read(&counters.fetch_failures),
            token_requests: read(&counters.token_requests),
            rejections: read(&counters.rejections),
            rejection_limit_reached: read(&counters.rejection_limit_reached),
            replays: read(&counters.replays),
            evictions: works.map.evictions(),
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
        self.0.works.publish_metrics();
    }

    /// What the cache knows, spec by spec, in no order. No token is in it.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let works = &self.0.works;
        let now = works.now();
        let held = works.held(now);
        let slots = works.map.slots();
        slots
            .iter()
            .map(|slot| Entry::of(slot, now, held.as_ref()))
            .collect()
    }
}

impl CacheBuilder {
    /// The cache. It starts no task and needs no runtime until a token is fetched.
    #[must_use]
    pub fn build(self) -> TokenCache {
        TokenCache(Arc::new(Core::new(self)))
    }
}

/// What the layer needs beyond what users call.
impl TokenCache {
    #[inline]
    pub(crate) fn now(&self) -> Moment {
        self.0.works.now()
    }

    #[inline]
    pub(crate) fn now_since(&self, last: Moment) -> Moment {
        self.0.works.settings.clock.now_since(last)
    }

    /// The spec's slot, if there is one.
    pub(crate) fn known_slot(&self, spec: &TokenSpec) -> Option<Arc<Slot>> {
        spec.check().ok()?;
        self.0.works.map.get(spec)
    }

    /// The spec's slot, made if there is none.
    pub(crate) fn slot(&self, spec: &TokenSpec) -> Result<Arc<Slot>, TokenError> {
        spec.check()?;
        Ok(self.0.works.map.get_or_make(spec, self.now()))
    }

    /// A token if there is one that can be sent; sees to it that a stale one is refreshed.
    pub(crate) fn without_waiting(&self, slot: &Arc<Slot>, now: Moment) -> Option<Token> {
        fetch::without_waiting(&self.0, slot, now)
    }

    /// The wait for the slot's token; it counts as one unless there is a token at hand.
    pub(crate) fn waiting(&self, slot: Arc<Slot>, at_hand: Option<&Token>) -> Waiting {
        let core = Arc::clone(&self.0);
        if let Some(token) = at_hand {
            self.count_hit(token.is_stale(self.now()));
            return Box::pin(async move { fetch::wait(&core, &slot).await });
        }
        Box::pin(async move { fetch::wait_as_a_miss(&core, &slot).await })
    }

    /// Like [`without_waiting`](Self::without_waiting), for a token with all that servers want by now.
    pub(crate) fn wished_without_waiting(&self, slot: &Arc<Slot>) -> Option<Token> {
        fetch::wished_without_waiting(&self.0, slot, self.now())
    }

    /// The wait for a token with all that servers want by now.
    pub(crate) fn waiting_as_wished(&self, slot: Arc<Slot>) -> Waiting {
        let core = Arc::clone(&self.0);
        Box::pin(async move { fetch::wait_as_wished(&core, &slot).await })
    }

    /// A server refuses exactly this token, and perhaps says what it wants instead.
    pub(crate) fn reject_generation(
        &self,
        slot: &Slot,
        generation: u64,
        wish: Option<Wish<'_>>,
    ) -> Rejection {
        let counters = &self.0.works.counters;
        let now = self.now();
        let rejection = match wish {
            None => slot.reject(generation, now),
            Some(wish) => slot.wish(generation, wish, now),
        };
        let spec = slot.spec();
        match rejection {
            Rejection::Dropped => {
                count(&counters.rejections);
                self.tell(&TokenEvent::Rejected { spec, generation });
            }
            Rejection::Superseded | Rejection::Outdated | Rejection::Vain => {}
            Rejection::Disbelieved { first } => {
                count(&counters.rejection_limit_reached);
                let storm = TokenEvent::RejectionLimitReached {
                    spec,
                    generation,
                    first,
                };
                self.tell(&storm);
            }
        }
        rejection
    }

    pub(crate) fn tell(&self, event: &TokenEvent<'_>) {
        self.0.works.settings.telemetry.tell(event);
    }

    pub(crate) fn count_hit(&self, stale: bool) {
        self.0.works.counters.hit(stale);
    }

    pub(crate) fn count_replay(&self) {
        count(&self.0.works.counters.replays);
    }
}

#[cfg(test)]
impl TokenCache {
    pub(super) fn works(&self) -> &super::shared::Works {
        &self.0.works
    }
}

impl TokenProvider for TokenCache {
    async fn token(&self, spec: &TokenSpec) -> Result<Token, TokenError> {
        self.get(spec).await
    }

    fn source_id(&self) -> Option<SourceId> {
        self.0.works.source.source_id_of()
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache")
            .field("settings", &self.0.works.settings)
            .field("stats", &self.stats())
            .finish()
    }
}
