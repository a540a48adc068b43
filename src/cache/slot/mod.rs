//! What is known of one spec's token: a state machine without I/O, time or tasks of its own.
//!
//! The token in service can be read without a lock; everything else stands behind one short lock. Whoever finds that a
//! new token is wanted gets a [`Takeoff`], and there is at most one at a time: it is the right, and the duty, to fetch.
//! It ends in [`Takeoff::land`]. If it is dropped instead, wherever and however its task died, those who wait are woken and
//! one of them takes off anew. So nothing that happens to a task can leave a slot without a way on.
//!
//! A generation is never given twice in a process, so "the token that I sent" means the same token for ever: rejecting an
//! old one never costs the one that has replaced it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::{ArcSwapOption, Guard};
use http::HeaderValue;

use self::state::Desk;
pub(crate) use self::state::Rejection;
pub(super) use self::{
    fetch_guard::{Fetched, Takeoff},
    fetch_receiver::{Landing, Outcome},
};
use super::{
    freshness::{self, Freshness},
    required_claims::{Standing, Wish, Wishes},
};
use crate::{
    clock::Moment,
    error::TokenError,
    token::{FetchReason, Token, TokenParts, TokenSpec},
};

mod fetch_guard;
mod fetch_receiver;
#[cfg(test)]
mod schedule_tests;
mod state;

pub(crate) struct Slot {
    spec: TokenSpec,
    token: ArcSwapOption<TokenParts>,
    /// The generation in service, zero for none: what a handle compares its own copy with.
    in_service: AtomicU64,
    /// Until then (monotonic) a stale token needs nobody's attention: a flight is under way, or the provider is left alone.
    quiet_until: AtomicU64,
    desk: Mutex<Desk>,
}

/// What somebody who wants a token is told.
pub(super) enum Answer {
    /// Here it is.
    Have(Token),
    /// Here it is, and a new one is due: fetch it behind the scenes.
    HaveAndFetch(Token, Takeoff),
    /// Somebody is fetching it.
    Wait(Landing),
    /// Fetch it, and wait like everybody else.
    Fetch(Takeoff, Landing),
    /// There is none, and the provider is left alone for a while.
    Held(TokenError),
}

/// What an operator is told of a slot.
pub(super) struct Snapshot {
    /// With the scopes that servers want.
    pub(super) spec: TokenSpec,
    pub(super) token: Option<Token>,
    pub(super) last_error: Option<TokenError>,
    pub(super) held: bool,
    pub(super) storm: bool,
}

impl Slot {
    pub(crate) fn new(spec: TokenSpec) -> Self {
        Self {
            spec,
            in_service: AtomicU64::new(0),
            token: ArcSwapOption::empty(),
            quiet_until: AtomicU64::new(0),
            desk: Mutex::default(),
        }
    }

    pub(crate) fn spec(&self) -> &TokenSpec {
        &self.spec
    }

    /// The last token that was rejected, until another has come.
    #[cfg(feature = "store")]
    pub(super) fn rejected(&self) -> Option<Token> {
        self.desk().rejected().cloned()
    }

    /// The generation in service, zero for none.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.in_service.load(Ordering::Acquire)
    }

    /// Whether a stale token can be served without telling anybody.
    #[inline]
    pub(crate) fn is_quiet(&self, now: Moment) -> bool {
        now.monotonic < self.quiet_until.load(Ordering::Relaxed)
    }

    /// The token in service, whatever its age.
    pub(crate) fn token(&self) -> Option<Token> {
        self.of_parts(self.token.load_full())
    }

    fn of_parts(&self, parts: Option<Arc<TokenParts>>) -> Option<Token> {
        Some(Token::new(parts?, self.spec.clone()))
    }

    /// Puts a token in service: from now on it is what everybody gets. Whoever does so has the lock.
    fn put_in_service(&self, _desk: &mut Desk, token: &Arc<TokenParts>) {
        self.token.store(Some(Arc::clone(token)));
        self.in_service.store(token.generation(), Ordering::Release);
    }

    /// Takes the token out of service, if there is one: whoever looks from now on does not find it.
    fn take_out_of_service(&self, _desk: &mut Desk) -> Option<Arc<TokenParts>> {
        self.in_service.store(0, Ordering::Release);
        self.token.swap(None)
    }

    /// A token that can be sent, if that takes nobody's attention. No lock, no allocation.
    pub(crate) fn usable(&self, now: Moment) -> Option<Arc<TokenParts>> {
        let token = self.token.load();
        self.serves(token.as_ref()?, now)?;
        Guard::into_inner(token)
    }

    /// The header value of such a token, its generation and whether it is stale, if that header is all there is to it. The
    /// token itself stays where it is, so nobody counts references to it.
    pub(crate) fn header(&self, now: Moment) -> Option<(HeaderValue, u64, bool)> {
        let token = self.token.load();
        let token = token.as_ref()?;
        let header = token.only_header()?;
        let stale = self.serves(token, now)?;
        Some((header.clone(), token.generation(), stale))
    }

    /// Whether a token can be sent without anybody's attention; if so, whether it is stale.
    fn serves(&self, token: &TokenParts, now: Moment) -> Option<bool> {
        match freshness::judge(token.times(), now) {
            Freshness::Fresh => Some(false),
            Freshness::Stale => self.is_quiet(now).then_some(true),
            Freshness::Expired => None,
        }
    }

    /// A token, or what must be done for one. `source` is the error for which the whole source is left alone, if it is.
    /// A flight counts as dead when it has not been heard of until `overdue` (monotonic).
    pub(super) fn ask(
        self: &Arc<Self>,
        now: Moment,
        overdue: Moment,
        source: Option<TokenError>,
    ) -> Answer {
        let mut desk = self.desk();
        let (usable, reason) = match self.token() {
            None if desk.rejected().is_some() => (None, FetchReason::Rejected),
            None => (None, FetchReason::Missing),
            Some(token) => match freshness::judge(token.times(), now) {
                Freshness::Fresh => return Answer::Have(token),
                Freshness::Stale => (Some(token), FetchReason::Stale),
                Freshness::Expired => (None, FetchReason::Expired),
            },
        };
        let Some(token) = usable else {
            return self.fetch_or_wait(&mut desk, now, overdue, source, reason);
        };
        if desk.flight(now).is_some() {
            return Answer::Have(token);
        }
        if let Some(held) = desk.held(now).or(source) {
            // Nobody need ask again before that is over.
            let quiet = now + held.retry_after().unwrap_or_default();
            self.quiet_until.store(quiet.monotonic, Ordering::Relaxed);
            return Answer::Have(token);
        }
        let (takeoff, _) = self.take_off(&mut desk, now, overdue, reason);
        Answer::HaveAndFetch(token, takeoff)
    }

    /// A new token, however good the one in service is.
    pub(super) fn ask_anew(
        self: &Arc<Self>,
        now: Moment,
        overdue: Moment,
        source: Option<TokenError>,
    ) -> Answer {
        self.fetch_or_wait(&mut self.desk(), now, overdue, source, FetchReason::Forced)
    }

    /// A token that was asked for with all that servers want by now.
    pub(super) fn ask_as_wished(
        self: &Arc<Self>,
        now: Moment,
        overdue: Moment,
        source: Option<TokenError>,
    ) -> Answer {
        let mut desk = self.desk();
        if desk.wishes().is_some_and(Wishes::is_due) {
            return self.fetch_or_wait(&mut desk, now, overdue, source, FetchReason::Widened);
        }
        drop(desk);
        self.ask(now, overdue, source)
    }

    fn fetch_or_wait(
        self: &Arc<Self>,
        desk: &mut Desk,
        now: Moment,
        overdue: Moment,
        source: Option<TokenError>,
        reason: FetchReason,
    ) -> Answer {
        if let Some(landing) = desk.flight(now) {
            return Answer::Wait(landing);
        }
        if let Some(error) = desk.held(now).or(source) {
            return Answer::Held(error);
        }
        let (takeoff, landing) = self.take_off(desk, now, overdue, reason);
        Answer::Fetch(takeoff, landing)
    }

    /// Takes exactly this token out of service.
    pub(crate) fn reject(&self, generation: u64, now: Moment) -> Rejection {
        self.reject_with(&mut self.desk(), generation, now, None)
    }

    /// A server wants more of exactly this token. Claims take it out of service; scopes leave it there until a wider one is
    /// in its place.
    pub(crate) fn wish(&self, generation: u64, wish: Wish<'_>, now: Moment) -> Rejection {
        let mut desk = self.desk();
        let scopes = match wish {
            Wish::Claims(claims) => {
                return self.reject_with(&mut desk, generation, now, Some(claims));
            }
            Wish::Scopes(scopes) => scopes,
        };
        let own = Wishes::default();
        let wishes = desk.wishes().unwrap_or(&own);
        match wishes.standing(&self.spec, scopes) {
            Standing::New => {}
            Standing::Served if self.generation() == generation => return Rejection::Vain,
            Standing::Due | Standing::Served => return Rejection::Superseded,
        }
        let troubles = desk.troubles();
        if let Err(disbelieved) = troubles.believe(generation, now) {
            return disbelieved;
        }
        if !troubles.wishes.want_scopes(&self.spec, scopes) {
            return Rejection::Vain;
        }
        Rejection::Outdated
    }

    fn reject_with(
        &self,
        desk: &mut Desk,
        generation: u64,
        now: Moment,
        claims: Option<&str>,
    ) -> Rejection {
        let in_service = self.generation();
        if generation == 0 || in_service != generation {
            // Somebody else's refusal was first; what will replace the token is still to come, and can have the claims.
            if let (0, Some(claims), Some(troubles)) =
                (in_service, claims, desk.known_troubles_mut())
                && generation != 0
                && troubles.refused == generation
            {
                troubles.wishes.want_claims(claims);
            }
            return Rejection::Superseded;
        }
        let troubles = desk.troubles();
        if let Err(disbelieved) = troubles.believe(generation, now) {
            return disbelieved;
        }
        if let Some(claims) = claims {
            troubles.wishes.want_claims(claims);
        }
        troubles.refused = generation;
        let refused = self.take_out_of_service(desk);
        desk.troubles().rejected = self.of_parts(refused);
        Rejection::Dropped
    }

    /// Whether a token that landed here must not be sent any more.
    pub(super) fn is_over(&self, token: &Token, now: Moment) -> bool {
        if token.times().end().is_past(now) {
            return true;
        }
        if self.generation() == token.generation() {
            return false;
        }
        let desk = self.desk();
        let refused = desk.known_troubles().map_or(0, |troubles| troubles.refused);
        token.generation() <= refused.max(self.generation())
    }

    /// This token's rejection turned out well, for whoever it was: it costs nothing.
    pub(crate) fn vindicate(&self, generation: u64) {
        if let Some(troubles) = self.desk().settle(generation) {
            troubles.budget.give_back();
        }
    }

    /// Forgets everything but what was rejected, and how often. A flight under way answers those who wait for it, and no more.
    pub(super) fn empty(&self) -> bool {
        let mut desk = self.desk();
        desk.last_flight += 1;
        desk.flight = None;
        desk.forget_failures();
        if let Some(troubles) = desk.known_troubles_mut() {
            troubles.wishes = Wishes::default();
        }
        self.quiet_until.store(0, Ordering::Relaxed);
        self.take_out_of_service(&mut desk).is_some()
    }

    /// Whether anything here is worth its memory.
    pub(super) fn is_worth_keeping(&self, now: Moment) -> bool {
        let desk = self.desk();
        let token = self.token.load();
        let expired = |token: &TokenParts| token.times().end().is_past(now);
        token.as_deref().is_some_and(|token| !expired(token))
            || desk.held(now).is_some()
            || desk.flight(now).is_some()
            // Who was refused lately does not start anew.
            || desk.known_troubles().is_some_and(|troubles| !troubles.budget.is_full(now))
    }

    pub(super) fn snapshot(&self, now: Moment) -> Snapshot {
        let desk = self.desk();
        let (wanted, _) = desk.wishes().map(Wishes::wanted).unwrap_or_default();
        Snapshot {
            spec: wanted.spec.unwrap_or_else(|| self.spec.clone()),
            token: self.token(),
            last_error: desk.hold().map(|hold| hold.last_error().clone()),
            held: desk.held(now).is_some(),
            storm: desk
                .known_troubles()
                .is_some_and(|troubles| troubles.budget.is_spent(now)),
        }
    }

    /// Bytes of memory held, for the cache's bound.
    pub(super) fn weight(&self) -> usize {
        let token = self.token.load();
        size_of::<Self>() + self.spec.weight() + token.as_ref().map_or(0, |token| token.weight())
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Nothing under this lock can panic half way; and a poisoned slot would be a latch.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Slot {
    pub(super) fn hold_desk(&self) -> impl Sized + '_ {
        self.desk()
    }
}
