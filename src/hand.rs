//! What a handle has at hand: the way to what a layer's services share, and the header values it used last.
//!
//! A hit must not write to memory that another thread writes to. So from its second request on, a handle has a [`Lane`] of its
//! own, whose reference count its futures share, a hit counter of its own, and for each route a copy of the header value
//! with a reference count of its own. A handle that is cloned for each request makes none of these, and pays for shared counts.

use std::sync::{Arc, OnceLock};

use http::HeaderValue;

use crate::{
    cache::{Bypass, LocalHits, Owed, Slot, TokenCache},
    clock::Moment,
    error::TokenError,
    routes::{Origin, Route, Routes},
    spec::TokenSpec,
    token::Token,
    verdict::Judge,
};

/// Of so many specs that had to be looked up, one gets its token hung on it, if it is kept. Not each: one that is built anew
/// for a request would pay for nothing, and one that is kept comes again.
const LOOKUPS: u32 = 16;

/// What one handle keeps for itself.
pub(crate) struct Hand {
    lane: Arc<Lane>,
    /// By route: what the last request on it was sent with.
    memos: Vec<Option<Memo>>,
    use_so_far: Use,
    /// When it was last used.
    seen: Moment,
    /// How often a spec had to be looked up.
    lookups: u32,
}

/// How much a handle was used so far: the second request is worth a lane of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    None,
    Once,
    /// The lane is this handle's alone, so it may count on it.
    Settled,
}

/// What all services of a layer share.
pub(crate) struct Shared {
    pub(crate) cache: TokenCache,
    pub(crate) routes: Routes,
    stops: Box<[Stop]>,
    /// The user's own, if there is one.
    pub(crate) judge: Option<Judge>,
}

/// A route's token: its slot is looked up once, and held.
struct Stop {
    spec: TokenSpec,
    allowed_scopes: Box<[Box<str>]>,
    slot: OnceLock<Arc<Slot>>,
}

/// A handle's own way to what all share, so that two threads don't count references on one cache line.
#[repr(align(128))]
pub(crate) struct Lane {
    pub(crate) shared: Arc<Shared>,
    /// None in the lane that a layer's services start on.
    hits: Option<LocalHits>,
    bypass: Bypass,
    pub(crate) owed: Owed,
    /// Whether the user judges each response.
    pub(crate) is_judged: bool,
}

impl Lane {
    fn new(shared: Arc<Shared>, hits: Option<LocalHits>) -> Arc<Self> {
        Arc::new(Self {
            bypass: shared.cache.bypass(),
            owed: shared.cache.owed(),
            is_judged: shared.judge.is_some(),
            shared,
            hits,
        })
    }
}

/// A header value with memory of its own, and how long it may be used without asking.
struct Memo {
    slot: Arc<Slot>,
    generation: u64,
    refresh: Moment,
    end: Moment,
    header: HeaderValue,
}

/// What a request can be sent with now.
pub(crate) struct AtHand {
    pub(crate) header: HeaderValue,
    pub(crate) generation: u64,
    /// The request's own spec, if it has one.
    pub(crate) own: Option<TokenSpec>,
}

impl AtHand {
    #[inline(always)]
    fn new(header: HeaderValue, generation: u64) -> Self {
        let own = None;
        Self {
            header,
            generation,
            own,
        }
    }
}

impl Hand {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self::on(Lane::new(shared, None))
    }

    /// On this lane, and not used yet.
    fn on(lane: Arc<Lane>) -> Self {
        Self {
            lane,
            memos: Vec::new(),
            use_so_far: Use::None,
            seen: Moment::default(),
            lookups: 0,
        }
    }

    #[inline(always)]
    pub(crate) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    #[inline(always)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.lane.shared
    }

    /// The token of a route, if it can be sent now. No lock, no allocation.
    #[inline(always)]
    pub(crate) fn at_hand(&mut self, route: u32) -> Option<AtHand> {
        let now = self.now();
        if let Some(Some(memo)) = self.memos.get(route as usize)
            && memo.slot.generation() == memo.generation
            && let Some(stale) = memo.serves(now)
            && let Some(hits) = &self.lane.hits
        {
            hits.hit(stale);
            return Some(AtHand::new(memo.header.clone(), memo.generation));
        }
        self.take_in_hand(route, now)
    }

    /// The same from the cache, and from the second time on with a copy for this handle alone.
    #[cold]
    fn take_in_hand(&mut self, route: u32, now: Moment) -> Option<AtHand> {
        let shared = Arc::clone(&self.lane.shared);
        let slot = shared.slot(route).ok()?;
        // What takes anybody's attention waits until it is known that the caller has no header of their own.
        let token = Token::new(slot.usable(now)?, slot.spec().clone());
        if !token.further_headers().is_empty() {
            return None;
        }
        let generation = token.generation();
        if !self.count_hit(token.is_stale(now)) {
            return Some(AtHand::new(token.header_value().clone(), generation));
        }
        let memo = Memo {
            slot: Arc::clone(slot),
            generation,
            refresh: token.times().refresh(),
            end: token.times().end(),
            header: token.private_header(),
        };
        let header = memo.header.clone();
        self.memos.resize_with(shared.stops.len(), || None);
        if let Some(place) = self.memos.get_mut(route as usize) {
            *place = Some(memo);
        }
        Some(AtHand::new(header, generation))
    }

    /// The token of a request's own spec, if it can be sent now: without a lock and an allocation, if the token hangs on this
    /// very spec; else under a shard's read lock, and once in a while with what it takes to hang it there.
    #[inline(never)]
    pub(crate) fn at_hand_by_spec(&mut self, spec: &TokenSpec) -> Option<AtHand> {
        let now = self.now();
        let cache = &self.lane.shared.cache;
        let shown = self.lane.bypass.look(spec, now, || cache.tell_of_use(spec));
        let (header, generation, stale) = match shown.as_deref() {
            Some(Some(token)) => (token.only_header()?.clone(), token.generation(), false),
            _ => self.look_up(spec, now)?,
        };
        drop(shown);
        self.count_hit(stale);
        Some(AtHand {
            header,
            generation,
            own: Some(spec.clone()),
        })
    }

    /// The same from the slot: header value, generation, and whether it is stale.
    fn look_up(&mut self, spec: &TokenSpec, now: Moment) -> Option<(HeaderValue, u64, bool)> {
        let slot = self.lane.shared.cache.known_slot(spec)?;
        let header = slot.header(now)?;
        self.lookups = self.lookups.wrapping_add(1);
        let is_its_turn = self.lookups.is_multiple_of(LOOKUPS);
        if is_its_turn && spec.is_kept() && spec.shown().is_none() {
            slot.hang_on(spec);
        }
        Some(header)
    }

    #[inline(always)]
    fn now(&mut self) -> Moment {
        let now = self.lane.shared.cache.now_since(self.seen);
        // Written once a tick and not at every hit: the neighbour in memory may be another thread's handle.
        if now.monotonic != self.seen.monotonic {
            self.seen = now;
        }
        now
    }

    /// Counts a hit, and says whether this handle has a lane of its own: from its second one on.
    #[inline]
    fn count_hit(&mut self, stale: bool) -> bool {
        if self.use_so_far == Use::Settled
            && let Some(hits) = &self.lane.hits
        {
            hits.hit(stale);
            return true;
        }
        self.settle_in(stale)
    }

    #[cold]
    fn settle_in(&mut self, stale: bool) -> bool {
        let shared = Arc::clone(&self.lane.shared);
        if self.use_so_far == Use::None {
            self.use_so_far = Use::Once;
            shared.cache.count_hit(stale);
            return false;
        }
        self.use_so_far = Use::Settled;
        let hits = shared.cache.local_hits();
        hits.hit(stale);
        self.lane = Lane::new(shared, Some(hits));
        true
    }
}

impl Clone for Hand {
    fn clone(&self) -> Self {
        Self::on(Arc::clone(&self.lane))
    }
}

impl Shared {
    pub(crate) fn new(
        cache: TokenCache,
        listed: &[Route],
        default_origin: Option<Origin>,
        judge: Option<Judge>,
    ) -> Self {
        let stop = |route: &Route| Stop {
            spec: route.spec().clone(),
            allowed_scopes: route.allowed_scopes().into(),
            slot: OnceLock::new(),
        };
        Self {
            cache,
            routes: Routes::arrange(listed, default_origin),
            stops: listed.iter().map(stop).collect(),
            judge,
        }
    }

    /// Whether a server on this route may ask for all of these.
    pub(crate) fn allows(&self, route: u32, scopes: &[String]) -> bool {
        let Some(stop) = self.stops.get(route as usize) else {
            return false;
        };
        let own = |scope: &String| stop.spec.iter_scopes().any(|one| one == scope);
        let allowed = |scope: &String| {
            let mut allowed = stop.allowed_scopes.iter();
            allowed.any(|one| **one == **scope || **one == *"*")
        };
        scopes.iter().all(|scope| own(scope) || allowed(scope))
    }

    /// The spec of a route.
    pub(crate) fn spec(&self, route: u32) -> Option<&TokenSpec> {
        Some(&self.stops.get(route as usize)?.spec)
    }

    #[inline]
    pub(crate) fn slot(&self, route: u32) -> Result<&Arc<Slot>, TokenError> {
        let Some(stop) = self.stops.get(route as usize) else {
            // The numbers are those that the routes were arranged with.
            return Err(TokenError::configuration("the route has no spec"));
        };
        if let Some(slot) = stop.slot.get() {
            return Ok(slot);
        }
        let slot = self.cache.slot(&stop.spec)?;
        Ok(stop.slot.get_or_init(|| slot))
    }
}

impl Memo {
    /// Whether it can be sent now; if so, whether it is stale, with nothing to be done about it just now.
    #[inline]
    fn serves(&self, now: Moment) -> Option<bool> {
        if !self.refresh.is_past(now) {
            return Some(false);
        }
        (self.slot.is_quiet(now) && !self.end.is_past(now)).then_some(true)
    }
}
