//! Implements the transitions of a slot. Each runs under the slot's lock.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::{ArcSwapOption, Guard};
use http::HeaderValue;

use super::{
    FetchGuard, FetchReceiver,
    state::{Rejection, SlotState},
};
use crate::{
    cache::{
        freshness::{self, Freshness},
        rejection_budget::RejectionBudget,
    },
    clock::Moment,
    error::TokenError,
    token::{FetchReason, Token, TokenInner, TokenSpec},
};

#[derive(Default)]
pub(crate) struct Slot {
    pub(super) spec: TokenSpec,
    token: ArcSwapOption<TokenInner>,
    /// The generation of the current token, zero for none. A handle compares its own copy with it.
    current_generation: AtomicU64,
    /// Until then (monotonic), a stale token is returned without a look at the state: a fetch is in progress, or backing off.
    refresh_suppressed_until: AtomicU64,
    state: Mutex<SlotState>,
}

/// Which token a caller needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// One that can be sent.
    Usable,
    /// One that is fetched from now on, or by the fetch in progress.
    New,
}

/// The slot's answer to a caller that needs a token.
pub(in crate::cache) enum SlotAnswer {
    Ready(Token),
    /// Wait for the fetch in progress.
    Wait(FetchReceiver),
    /// There is no usable token, and none is requested until the back-off ends.
    BackingOff(TokenError),
}

impl Slot {
    pub(crate) fn new(spec: TokenSpec) -> Self {
        Self {
            spec,
            ..Self::default()
        }
    }

    pub(crate) fn spec(&self) -> &TokenSpec {
        &self.spec
    }

    /// Returns the generation of the current token, or zero without a token.
    #[inline]
    pub(crate) fn current_generation(&self) -> u64 {
        self.current_generation.load(Ordering::Acquire)
    }

    /// Returns `true` if a stale token can be used without starting a refresh.
    #[inline]
    pub(crate) fn is_refresh_suppressed(&self, now: Moment) -> bool {
        now.monotonic < self.refresh_suppressed_until.load(Ordering::Relaxed)
    }

    /// Returns the current token, whatever its age.
    pub(crate) fn token(&self) -> Option<Token> {
        self.with_spec(self.token.load_full())
    }

    fn with_spec(&self, inner: Option<Arc<TokenInner>>) -> Option<Token> {
        Some(Token::new(inner?, self.spec.clone()))
    }

    /// Returns the current token if it can be sent and no refresh has to be started. Takes no lock and allocates nothing.
    pub(crate) fn usable(&self, now: Moment) -> Option<Token> {
        let token = self.token.load();
        self.usable_staleness(token.as_ref()?, now)?;
        self.with_spec(Guard::into_inner(token))
    }

    /// Returns the header value of such a token, its generation and whether it is stale. Returns `None` if the token has extra
    /// headers. The token is not cloned, so its reference count doesn't change.
    pub(crate) fn header(&self, now: Moment) -> Option<(HeaderValue, u64, bool)> {
        let token = self.token.load();
        let token = token.as_ref()?;
        let header = token.only_header()?;
        let is_stale = self.usable_staleness(token, now)?;
        Some((header.clone(), token.generation, is_stale))
    }

    /// Returns whether the token is stale if it can be sent without starting a refresh, otherwise `None`.
    fn usable_staleness(&self, token: &TokenInner, now: Moment) -> Option<bool> {
        match freshness::classify(&token.times, now) {
            Freshness::Fresh => Some(false),
            Freshness::Stale => self.is_refresh_suppressed(now).then_some(true),
            Freshness::Expired => None,
        }
    }

    /// Returns a token, or what to do to get one. If a guard is returned too, the caller must start a fetch with it.
    ///
    /// `source_error` is the error for which the whole source backs off, if it does. A fetch that starts here counts as dead if
    /// it has not ended by `deadline`.
    pub(in crate::cache) fn request(
        self: &Arc<Self>,
        need: Need,
        now: Moment,
        deadline: Moment,
        source_error: Option<TokenError>,
    ) -> (SlotAnswer, Option<FetchGuard>) {
        let mut state = self.state();
        let (usable, reason) = match self.token() {
            _ if need == Need::New => (None, FetchReason::Forced),
            None if state.rejected().is_some() => (None, FetchReason::Rejected),
            None => (None, FetchReason::Missing),
            Some(token) => match freshness::classify(token.times(), now) {
                Freshness::Fresh => return (SlotAnswer::Ready(token), None),
                Freshness::Stale => (Some(token), FetchReason::Stale),
                Freshness::Expired => (None, FetchReason::Expired),
            },
        };
        if let Some(receiver) = state.fetch_in_progress(now) {
            let answer = usable.map_or(SlotAnswer::Wait(receiver), SlotAnswer::Ready);
            return (answer, None);
        }
        if let Some(error) = state.backoff_error(now).or(source_error) {
            let until = now + error.retry_after().unwrap_or_default();
            let Some(token) = usable else {
                return (SlotAnswer::BackingOff(error), None);
            };
            self.suppress_refresh_until(until);
            return (SlotAnswer::Ready(token), None);
        }
        let (guard, receiver) = self.start_fetch(&mut state, now, deadline, reason);
        let answer = usable.map_or(SlotAnswer::Wait(receiver), SlotAnswer::Ready);
        (answer, Some(guard))
    }

    /// Takes the token of this generation out of use, because a server rejected it. `claims` are the claims that the server
    /// requires of the next token.
    pub(crate) fn reject(&self, generation: u64, claims: Option<&str>, now: Moment) -> Rejection {
        let mut state = self.state();
        let current = self.current_generation();
        if generation == 0 || current != generation {
            // Another rejection was first. If its token is still being fetched, it can have these claims.
            if let (0, Some(failures)) = (current, state.failures_mut())
                && generation != 0
                && failures.last_rejected == generation
            {
                failures.claims.require(claims);
            }
            return Rejection::Superseded;
        }
        let failures = state.failures();
        if let Err(first) = failures.budget.spend(generation, now) {
            return Rejection::LimitReached { first };
        }
        failures.claims.require(claims);
        failures.last_rejected = generation;
        let rejected = self.take_current(&mut state);
        state.failures().rejected = self.with_spec(rejected);
        Rejection::Applied
    }

    /// Spends one of the rejection budget on a challenge that requires more scopes than the token of this generation has.
    ///
    /// The token stays in use, because other resources accept it. A repeated challenge, for the same token and the same `wider` spec, is
    /// paid once.
    pub(crate) fn spend_on_scopes(
        &self,
        generation: u64,
        wider: &TokenSpec,
        now: Moment,
    ) -> Rejection {
        let mut state = self.state();
        let failures = state.failures();
        let challenge = Some((generation, wider.clone()));
        if failures.last_scope_challenge == challenge {
            return Rejection::Superseded;
        }
        if let Err(first) = failures.budget.spend(generation, now) {
            return Rejection::LimitReached { first };
        }
        failures.last_scope_challenge = challenge;
        Rejection::Applied
    }

    /// Requires the claims that a server required of the other slot's tokens, unless a server has required any here.
    pub(crate) fn inherit_claims(&self, other: &Self) {
        let (claims, _) = other.state().required_claims();
        let mut state = self.state();
        if let (Some(claims), (None, _)) = (claims, state.required_claims()) {
            state.failures().claims.require(Some(&claims));
        }
    }

    /// Refunds what was spent on this generation, because a replay with another token was accepted.
    pub(crate) fn refund(&self, generation: u64) {
        if let Some(failures) = self.state().failures_mut() {
            failures.budget.refund(generation);
        }
    }

    /// Returns `true` if a token that a fetch returned must not be sent any more.
    pub(in crate::cache) fn is_unusable(&self, token: &Token, now: Moment) -> bool {
        if token.times().unusable_at().is_past(now) {
            return true;
        }
        if self.current_generation() == token.generation() {
            return false;
        }
        let mut state = self.state();
        let failures = state.failures_mut();
        let rejected = failures.map_or(0, |failures| failures.last_rejected);
        token.generation() <= rejected.max(self.current_generation())
    }

    /// Returns the last token that was rejected, until another has been fetched.
    #[cfg(feature = "store")]
    pub(in crate::cache) fn rejected(&self) -> Option<Token> {
        self.state().rejected().cloned()
    }

    /// Removes the token, the failures and the required claims, but not the rejection budget. A fetch in progress returns its token
    /// to its waiters only. Returns `true` if there was a token.
    pub(in crate::cache) fn clear(&self) -> bool {
        let mut state = self.state();
        // A fetch in progress is no longer the last one, so it ends without an effect on the slot.
        state.last_fetch += 1;
        state.fetch = None;
        if let Some(failures) = state.clear_failures() {
            failures.claims = Default::default();
        }
        self.suppress_refresh_until(Moment::default());
        self.take_current(&mut state).is_some()
    }

    /// Returns `true` if the slot has a usable token, a fetch, a back-off, or a rejection budget that isn't full.
    pub(in crate::cache) fn is_worth_keeping(&self, now: Moment) -> bool {
        let state = self.state();
        let is_usable = |token: Token| !token.times().unusable_at().is_past(now);
        self.token().is_some_and(is_usable)
            || state.backoff_error(now).is_some()
            || state.fetch_in_progress(now).is_some()
            || state.rejections_left(now) < RejectionBudget::FULL
    }

    /// Returns the bytes of memory that the slot holds.
    pub(in crate::cache) fn weight(&self) -> usize {
        let token = self.token.load();
        size_of::<Self>() + self.spec.weight() + token.as_ref().map_or(0, |token| token.weight())
    }

    /// Makes the token the current one. The caller holds the lock.
    pub(super) fn set_current(&self, _: &mut SlotState, token: &Arc<TokenInner>) {
        self.token.store(Some(Arc::clone(token)));
        self.current_generation
            .store(token.generation, Ordering::Release);
    }

    /// Removes the current token. The caller holds the lock.
    fn take_current(&self, _: &mut SlotState) -> Option<Arc<TokenInner>> {
        self.current_generation.store(0, Ordering::Release);
        self.token.swap(None)
    }

    pub(super) fn suppress_refresh_until(&self, moment: Moment) {
        self.refresh_suppressed_until
            .store(moment.monotonic, Ordering::Relaxed);
    }

    pub(in crate::cache) fn state(&self) -> MutexGuard<'_, SlotState> {
        // No code under this lock can panic half way. A poisoned slot would never return a token again.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
