//! This module implements the state of one handle of [`Auth`](crate::layer::Auth): a pointer to the state that all services of a layer
//! share, and a memo of the header values that the handle sent last.
//!
//! A hit must not write to memory that another thread writes to. From its second request on, a handle therefore has a separate
//! pointer, whose reference count only its response futures change, and private copies of header values. A handle that is cloned for
//! each request has neither, and changes shared reference counts.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use arc_swap::ArcSwapOption;
use http::HeaderValue;

use super::{
    route::{Route, RouteOrigin},
    route_table::RouteTable,
};
use crate::{
    cache::{HitCounter, Slot, TokenCache},
    clock::Moment,
    error::TokenError,
    token::TokenSpec,
    verdict::Classifier,
};

/// The number of tokens in a handle's memo. Each holds its cache entry, which therefore is not evicted.
const MEMO_SIZE: usize = 4;
/// An occupied entry of the memo is replaced at most this often, because each change copies a header value.
const REPLACE_INTERVAL_NANOS: u64 = 1_000_000_000;

/// The state of one handle.
pub(crate) struct HandleState {
    shared: Arc<SharedPointer>,
    memo: Option<Box<Memo>>,
    was_used: bool,
    /// When the handle was used last, by the coarse clock.
    last_use: Moment,
}

/// The state that all services of a layer share.
pub(crate) struct LayerShared {
    pub(crate) cache: TokenCache,
    pub(crate) routes: RouteTable,
    tokens: Box<[RouteToken]>,
    /// Counts how often a route has got a wider spec. The memos of routes that are older are not used any more.
    widenings: AtomicU32,
    pub(crate) classifier: Option<Classifier>,
}

/// The token of a route.
struct RouteToken {
    /// The spec that the route was configured with.
    spec: TokenSpec,
    allowed_scopes: Box<[Box<str>]>,
    /// The slot of the route's token, looked up once and held. Its spec has more scopes if a server has required them.
    slot: ArcSwapOption<Slot>,
}

/// A handle's pointer to [`LayerShared`]. Threads with separate handles do not change the same reference count.
#[repr(align(128))]
pub(crate) struct SharedPointer {
    pub(crate) layer: Arc<LayerShared>,
    pub(crate) has_classifier: bool,
}

/// The header values that a handle sent last. The entry of a route is chosen by its number, that of a spec by its hash.
#[repr(align(128))]
struct Memo {
    headers: [Option<CachedHeader>; MEMO_SIZE],
    /// The layer's number of widenings when the headers of routes were cached.
    widenings: u32,
    hits: HitCounter,
}

/// A private copy of a header value, and how long it may be used without asking the cache.
struct CachedHeader {
    key: MemoKey,
    slot: Arc<Slot>,
    generation: u64,
    refresh_at: Moment,
    unusable_at: Moment,
    header: HeaderValue,
    /// On the monotonic clock.
    cached_at: u64,
}

enum MemoKey {
    Route(u32),
    /// Compared by pointer. Because the memo holds the spec, no other spec can get its address.
    Spec(TokenSpec),
}

/// A token that can be sent without waiting.
pub(crate) struct AvailableToken {
    pub(crate) header: HeaderValue,
    pub(crate) generation: u64,
}

impl HandleState {
    pub(crate) fn new(layer: Arc<LayerShared>) -> Self {
        Self::with_pointer(Arc::new(SharedPointer::new(layer)))
    }

    fn with_pointer(shared: Arc<SharedPointer>) -> Self {
        Self {
            shared,
            memo: None,
            was_used: false,
            last_use: Moment::default(),
        }
    }

    #[inline(always)]
    pub(crate) fn pointer(&self) -> &Arc<SharedPointer> {
        &self.shared
    }

    #[inline(always)]
    pub(crate) fn layer(&self) -> &LayerShared {
        &self.shared.layer
    }

    /// Returns the token of a route if it can be sent now. Takes no lock and allocates nothing.
    #[inline(always)]
    pub(crate) fn token_of_route(&mut self, route: u32) -> Option<AvailableToken> {
        let now = self.now();
        if let Some(memo) = &self.memo
            && memo.widenings == self.shared.layer.widenings.load(Ordering::Relaxed)
            && let Some(cached) = memo.get(route as usize)
            && matches!(cached.key, MemoKey::Route(number) if number == route)
            && let Some(token) = cached.available(now, &memo.hits, &self.shared.layer.cache)
        {
            return Some(token);
        }
        self.settle();
        let layer = &*self.shared.layer;
        let mut memo = self.memo.as_deref_mut();
        if let Some(memo) = &mut memo {
            // Read before the slot: a memo that is up to date has no slot from before the last widening.
            memo.forget_widened_routes(layer.widenings.load(Ordering::Acquire));
        }
        let slot = layer.tokens.get(route as usize)?.slot.load();
        let slot = slot.as_ref()?;
        token_of_slot(layer, memo, slot, now, route as usize, || {
            MemoKey::Route(route)
        })
    }

    /// Returns the token of a request's own spec if it can be sent now. A spec that the memo doesn't have is looked up under
    /// the read lock of a shard.
    #[inline(never)]
    pub(crate) fn token_of_spec(&mut self, spec: &TokenSpec) -> Option<AvailableToken> {
        let now = self.now();
        let index = spec.precomputed_hash() as usize;
        if let Some(memo) = &self.memo
            && let Some(cached) = memo.get(index)
            && matches!(&cached.key, MemoKey::Spec(other) if other.ptr_eq(spec))
            && let Some(token) = cached.available(now, &memo.hits, &self.shared.layer.cache)
        {
            return Some(token);
        }
        self.settle();
        let layer = &*self.shared.layer;
        let slot = layer.cache.known_slot(spec)?;
        let memo = self.memo.as_deref_mut();
        token_of_slot(layer, memo, &slot, now, index, || {
            MemoKey::Spec(spec.clone())
        })
    }

    /// Creates a separate pointer and a memo on the second request of the handle.
    #[inline]
    fn settle(&mut self) {
        if self.was_used && self.memo.is_none() {
            self.shared = Arc::new(SharedPointer::new(Arc::clone(&self.shared.layer)));
            self.memo = Some(Box::new(Memo {
                headers: Default::default(),
                widenings: 0,
                hits: self.shared.layer.cache.hit_counter(),
            }));
        }
        self.was_used = true;
    }

    #[inline(always)]
    fn now(&mut self) -> Moment {
        let now = self.shared.layer.cache.now_since(self.last_use);
        // Written once per tick of the clock, not per hit: the handle may share a cache line with another thread's.
        if now.monotonic != self.last_use.monotonic {
            self.last_use = now;
        }
        now
    }
}

/// Returns the token of a cache entry if it can be sent now, and remembers it if the handle has a memo.
#[inline(never)]
fn token_of_slot(
    layer: &LayerShared,
    memo: Option<&mut Memo>,
    slot: &Arc<Slot>,
    now: Moment,
    index: usize,
    key: impl FnOnce() -> MemoKey,
) -> Option<AvailableToken> {
    // Nothing is fetched before it is known that the caller set no `Authorization` header.
    let (header, generation, is_stale) = slot.header(now)?;
    let Some(memo) = memo else {
        layer.cache.count_hit(is_stale);
        return Some(AvailableToken { header, generation });
    };
    memo.hits.count();
    if is_stale {
        layer.cache.count_stale_hit();
    }
    if memo.has_room(index, slot, generation, now)
        && let Some(token) = slot.token()
    {
        let cached = CachedHeader {
            key: key(),
            slot: Arc::clone(slot),
            generation: token.generation(),
            refresh_at: token.times().refresh_at(),
            unusable_at: token.times().unusable_at(),
            header: token.private_header(),
            cached_at: now.monotonic,
        };
        memo.set(index, cached);
    }
    Some(AvailableToken { header, generation })
}

impl Clone for HandleState {
    fn clone(&self) -> Self {
        Self::with_pointer(Arc::clone(&self.shared))
    }
}

impl SharedPointer {
    fn new(layer: Arc<LayerShared>) -> Self {
        Self {
            has_classifier: layer.classifier.is_some(),
            layer,
        }
    }
}

impl Memo {
    #[inline(always)]
    fn get(&self, index: usize) -> Option<&CachedHeader> {
        self.headers.get(index % MEMO_SIZE)?.as_ref()
    }

    fn set(&mut self, index: usize, cached: CachedHeader) {
        if let Some(entry) = self.headers.get_mut(index % MEMO_SIZE) {
            *entry = Some(cached);
        }
    }

    fn forget_widened_routes(&mut self, widenings: u32) {
        if self.widenings != widenings {
            self.widenings = widenings;
            for header in &mut self.headers {
                header.take_if(|cached| matches!(cached.key, MemoKey::Route(_)));
            }
        }
    }

    /// Returns `true` if the token of this slot may be cached now: if the entry is free, has an older token of the slot, or is old enough.
    fn has_room(&self, index: usize, slot: &Arc<Slot>, generation: u64, now: Moment) -> bool {
        self.get(index).is_none_or(|cached| {
            let is_outdated = Arc::ptr_eq(&cached.slot, slot) && cached.generation != generation;
            is_outdated || now.monotonic.saturating_sub(cached.cached_at) >= REPLACE_INTERVAL_NANOS
        })
    }
}

impl CachedHeader {
    /// Returns the header value, and counts the hit, if it is still that of the current token and can be sent.
    #[inline(always)]
    fn available(
        &self,
        now: Moment,
        hits: &HitCounter,
        cache: &TokenCache,
    ) -> Option<AvailableToken> {
        if self.slot.current_generation() != self.generation {
            return None;
        }
        let is_stale = self.refresh_at.is_past(now);
        if is_stale && (self.unusable_at.is_past(now) || !self.slot.is_refresh_suppressed(now)) {
            return None;
        }
        hits.count();
        if is_stale {
            cache.count_stale_hit();
        }
        Some(AvailableToken {
            header: self.header.clone(),
            generation: self.generation,
        })
    }
}

impl LayerShared {
    pub(crate) fn new(
        cache: TokenCache,
        routes: &[Route],
        default_origin: Option<&RouteOrigin>,
        classifier: Option<Classifier>,
    ) -> Self {
        let token = |route: &Route| RouteToken {
            spec: route.spec().clone(),
            allowed_scopes: route.allowed_scopes.clone(),
            slot: ArcSwapOption::empty(),
        };
        Self {
            cache,
            tokens: routes.iter().map(token).collect(),
            routes: RouteTable::new(routes, default_origin),
            widenings: AtomicU32::new(0),
            classifier,
        }
    }

    /// Returns `true` if a server on this route may require all of these scopes.
    pub(crate) fn allows(&self, route: u32, scopes: &[String]) -> bool {
        let Some(token) = self.tokens.get(route as usize) else {
            return false;
        };
        scopes.iter().all(|scope| {
            let mut allowed = token.allowed_scopes.iter();
            token.spec.iter_scopes().any(|own| own == scope)
                || allowed.any(|one| **one == **scope || **one == *"*")
        })
    }

    /// Returns the spec that a route was configured with.
    pub(crate) fn spec(&self, route: u32) -> Option<&TokenSpec> {
        Some(&self.tokens.get(route as usize)?.spec)
    }

    /// Returns the slot of a request's own spec, or that of its route's token, which is held from now on. The slot is created if it
    /// was evicted.
    pub(crate) fn slot(
        &self,
        route: u32,
        own: Option<&TokenSpec>,
    ) -> Result<Arc<Slot>, TokenError> {
        if let Some(spec) = own {
            return self.cache.slot(spec);
        }
        let Some(token) = self.tokens.get(route as usize) else {
            // A route number is an index of this list.
            return Err(TokenError::configuration("the route has no spec"));
        };
        if let Some(slot) = token.slot.load_full() {
            return Ok(slot);
        }
        let slot = self.cache.slot(&token.spec)?;
        // Another thread may have been first, also with a wider spec.
        let empty = None::<Arc<Slot>>;
        let before = token.slot.compare_and_swap(&empty, Some(slot.clone()));
        Ok(before.as_ref().map_or(slot, Arc::clone))
    }

    /// Makes the token of a wider spec the one of the route, unless the route has got other scopes meanwhile. The next
    /// challenge then adds these.
    pub(crate) fn widen(&self, route: u32, wider: &Arc<Slot>) {
        let Some(token) = self.tokens.get(route as usize) else {
            return;
        };
        let current = token.slot.load();
        let has_scope = |scope| wider.spec().iter_scopes().any(|other| other == scope);
        let is_wider = current.as_ref().is_none_or(|current| {
            !Arc::ptr_eq(current, wider) && current.spec().iter_scopes().all(has_scope)
        });
        if is_wider {
            let before = token
                .slot
                .compare_and_swap(&*current, Some(Arc::clone(wider)));
            if before.as_ref().map(Arc::as_ptr) == current.as_ref().map(Arc::as_ptr) {
                self.widenings.fetch_add(1, Ordering::Release);
            }
        }
    }
}
