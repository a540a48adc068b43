//! Implements [`FetchGuard`]: how a fetch ends, and how its waiters learn of it.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{FetchReceiver, Outcome, Slot, state::SlotState};
use crate::{
    cache::backoff::Backoff,
    clock::Moment,
    error::TokenError,
    source::TokenRequest,
    token::{FetchReason, NewToken, Times, Token, TokenMeta, TokenOrigin},
};

/// After a fetch died, a usable token is not refreshed again sooner than this after that fetch began.
pub(super) const PAUSE_AFTER_DEATH: Duration = Duration::from_secs(1);

/// The permission to fetch a slot's next token. Dropping it wakes the waiters without an outcome.
pub(in crate::cache) struct FetchGuard {
    slot: Arc<Slot>,
    /// `None` once the outcome has been sent.
    sender: Option<watch::Sender<Option<Outcome>>>,
    request: TokenRequest,
    /// The version of the claims in the request.
    claims_version: u64,
    /// The number of this fetch in its slot.
    number: u64,
    next_after_death: Moment,
}

/// A token from the provider or the store, and what the cache adds to it.
pub(in crate::cache) struct Fetched {
    pub(in crate::cache) token: NewToken,
    pub(in crate::cache) times: Times,
    pub(in crate::cache) generation: u64,
    pub(in crate::cache) origin: TokenOrigin,
}

impl Slot {
    pub(super) fn start_fetch(
        self: &Arc<Self>,
        state: &mut SlotState,
        now: Moment,
        deadline: Moment,
        reason: FetchReason,
    ) -> (FetchGuard, FetchReceiver) {
        let (sender, receiver) = watch::channel(None);
        let receiver = FetchReceiver {
            receiver,
            deadline: deadline.monotonic,
        };
        state.last_fetch += 1;
        state.fetch = Some(Box::new(receiver.clone()));
        self.suppress_refresh_until(deadline);
        let (claims, claims_version) = state.required_claims();
        let request = TokenRequest::new(self.spec.clone()).because(reason);
        let guard = FetchGuard {
            slot: Arc::clone(self),
            sender: Some(sender),
            request: match claims {
                Some(claims) => request.with_claims(claims),
                None => request,
            },
            claims_version,
            number: state.last_fetch,
            next_after_death: now + PAUSE_AFTER_DEATH,
        };
        (guard, receiver)
    }
}

impl FetchGuard {
    pub(in crate::cache) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(in crate::cache) fn reason(&self) -> FetchReason {
        self.request.reason()
    }

    /// Returns the request for the source.
    pub(in crate::cache) fn request(&self) -> TokenRequest {
        self.request.clone()
    }

    /// Returns everything that the token depends on, as bytes that are the same in every process.
    #[cfg(feature = "store")]
    pub(in crate::cache) fn store_key(&self) -> Vec<u8> {
        let mut key = self.slot.spec.key().to_vec();
        if let Some(claims) = self.request.claims() {
            // No record of a spec begins with this byte.
            key.push(u8::MAX);
            key.extend_from_slice(claims.as_bytes());
        }
        key
    }

    /// Moves the deadline of a fetch that has not begun yet.
    pub(in crate::cache) fn extend(&self, deadline: Moment) {
        let mut state = self.slot.state();
        if state.last_fetch == self.number
            && let Some(receiver) = &mut state.fetch
        {
            receiver.deadline = deadline.monotonic;
            self.slot.suppress_refresh_until(deadline);
        }
    }

    /// Stores the token, runs `before_notify`, and sends the token to all waiters.
    pub(in crate::cache) fn complete(
        self,
        fetched: Fetched,
        before_notify: impl FnOnce(&Arc<Slot>, &Token),
    ) -> Token {
        let slot = Arc::clone(&self.slot);
        let mut state = slot.state();
        let last = slot.token().or_else(|| state.rejected().cloned());
        let same = last.filter(|last| fetched.token.same_text(last));
        let same_since = same.map_or(fetched.generation, |same| same.same_since());
        let meta = TokenMeta {
            generation: fetched.generation,
            same_since,
            reason: self.reason(),
            origin: fetched.origin,
        };
        let new = fetched.token;
        let token = new.into_token(slot.spec.clone(), fetched.times, meta);
        if state.last_fetch == self.number {
            state.fetch = None;
            slot.suppress_refresh_until(Moment::default());
            let (_, required_version) = state.required_claims();
            if required_version == self.claims_version {
                if let Some(failures) = state.clear_failures() {
                    failures.claims.grant();
                }
                slot.set_current(&mut state, token.inner());
            } else {
                // A server required other claims during the fetch. The waiters ask the slot again.
                state.failures().last_rejected = fetched.generation;
            }
        }
        drop(state);
        before_notify(&slot, &token);
        drop(slot);
        self.notify(Ok(token.clone()));
        token
    }

    /// Sends the error to all waiters. Until `quiet`, a usable token is not refreshed again.
    ///
    /// `next_backoff` computes the slot's next back-off from its last one, if the failure concerns the slot.
    pub(in crate::cache) fn fail(
        self,
        error: TokenError,
        quiet: Moment,
        next_backoff: impl FnOnce(Option<&Backoff>) -> Option<Backoff>,
    ) {
        let slot = Arc::clone(&self.slot);
        let mut state = slot.state();
        if state.last_fetch == self.number {
            state.fetch = None;
            let claims = state.failures_mut().map(|failures| &mut failures.claims);
            let are_claims_refused =
                claims.is_some_and(|claims| claims.fail(self.claims_version, &error));
            slot.suppress_refresh_until(quiet);
            // Without these claims, the provider has not been asked yet.
            if !are_claims_refused && let Some(backoff) = next_backoff(state.backoff()) {
                slot.suppress_refresh_until(quiet.later_of(backoff.until));
                state.failures().backoff = Some(backoff);
            }
        }
        drop(state);
        drop(slot);
        self.notify(Err(error));
    }

    /// Ends the fetch without an outcome, unless a caller waits for it. Until `quiet`, a usable token is not refreshed again.
    #[cfg(any(test, feature = "store"))]
    pub(in crate::cache) fn abandon(mut self, quiet: Moment) -> Result<(), Self> {
        let slot = Arc::clone(&self.slot);
        let mut state = slot.state();
        // Callers join a fetch under this lock. The state's own receiver is one of them.
        let is_last = state.last_fetch == self.number;
        if let Some(sender) = &self.sender
            && sender.receiver_count() > usize::from(is_last)
        {
            drop(state);
            return Err(self);
        }
        self.sender = None;
        if is_last {
            state.fetch = None;
            slot.suppress_refresh_until(quiet);
        }
        Ok(())
    }

    /// Sends the outcome last: by then, only the waiters hold the slot on behalf of this fetch.
    fn notify(mut self, outcome: Outcome) {
        let sender = self.sender.take();
        drop(self);
        if let Some(sender) = sender {
            sender.send_replace(Some(outcome));
        }
    }
}

impl Drop for FetchGuard {
    /// Ends a fetch whose task died. The waiters see that the sender was dropped. A usable token is not refreshed for a moment.
    fn drop(&mut self) {
        if self.sender.is_some() && self.slot.state().last_fetch == self.number {
            self.slot.suppress_refresh_until(self.next_after_death);
        }
    }
}
