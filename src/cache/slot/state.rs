//! Defines the part of a slot that its lock guards: the fetch in progress, failures and rejections.

use super::FetchReceiver;
use crate::{
    cache::{backoff::Backoff, challenge::RequiredClaims, rejection_budget::RejectionBudget},
    clock::Moment,
    error::TokenError,
    token::{Token, TokenSpec},
};

/// A cache may have very many slots, and few of them have a fetch or failures. These are therefore boxed.
#[derive(Default)]
pub(in crate::cache) struct SlotState {
    pub(super) fetch: Option<Box<FetchReceiver>>,
    /// The number of the last fetch. A fetch with an older number no longer changes the slot.
    pub(super) last_fetch: u64,
    failures: Option<Box<FailureState>>,
}

/// The failed fetches and rejected tokens of a slot.
#[derive(Default)]
pub(super) struct FailureState {
    pub(super) backoff: Option<Backoff>,
    pub(super) budget: RejectionBudget,
    /// The last token that was rejected, to recognize it if the source returns it again.
    pub(super) rejected: Option<Token>,
    /// The newest generation that was taken out of use. It is kept longer than the token, for callers that hold that token.
    pub(super) last_rejected: u64,
    pub(super) claims: RequiredClaims,
    /// The last challenge for more scopes that was paid for.
    pub(super) last_scope_challenge: Option<(u64, TokenSpec)>,
}

/// The effect of a rejection on the token that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// The token is out of use, or the challenge for more scopes was paid for.
    Applied,
    /// The token was replaced or rejected before, or the challenge was paid for before.
    Superseded,
    /// There were too many rejections. The token stays in use.
    LimitReached {
        /// Whether the limit was not reached before.
        first: bool,
    },
}

impl SlotState {
    /// Returns the receiver of the fetch in progress, unless that fetch died or exceeded its deadline.
    pub(super) fn fetch_in_progress(&self, now: Moment) -> Option<FetchReceiver> {
        let receiver = self.fetch.as_deref()?;
        receiver.is_pending(now).then(|| receiver.clone())
    }

    /// Returns the failures, if there have been any.
    pub(super) fn failures_mut(&mut self) -> Option<&mut FailureState> {
        self.failures.as_deref_mut()
    }

    /// Returns the failures. Creates them if there have been none.
    pub(super) fn failures(&mut self) -> &mut FailureState {
        self.failures.get_or_insert_default()
    }

    pub(super) fn backoff(&self) -> Option<&Backoff> {
        self.failures.as_ref()?.backoff.as_ref()
    }

    pub(in crate::cache) fn backoff_error(&self, now: Moment) -> Option<TokenError> {
        self.backoff()?.error(now)
    }

    pub(in crate::cache) fn last_error(&self) -> Option<&TokenError> {
        self.backoff().map(|backoff| &backoff.last_error)
    }

    pub(in crate::cache) fn rejections_left(&self, now: Moment) -> u8 {
        let failures = self.failures.as_ref();
        failures.map_or(RejectionBudget::FULL, |failures| failures.budget.left(now))
    }

    pub(super) fn rejected(&self) -> Option<&Token> {
        self.failures.as_ref()?.rejected.as_ref()
    }

    /// Returns the claims to request, and their version.
    pub(super) fn required_claims(&self) -> (Option<std::sync::Arc<str>>, u64) {
        let claims = self.failures.as_ref().map(|failures| &failures.claims);
        claims.map(RequiredClaims::current).unwrap_or_default()
    }

    /// Forgets the back-off and the rejected token.
    pub(super) fn clear_failures(&mut self) -> Option<&mut FailureState> {
        let failures = self.failures_mut()?;
        failures.backoff = None;
        failures.rejected = None;
        Some(failures)
    }
}
