//! Implements [`FetchReceiver`], the receiving end of a fetch. Every waiter has a clone.

use std::time::Duration;

use tokio::sync::watch;

use crate::{clock::Moment, error::TokenError, token::Token};

/// The outcome of a fetch, which all its waiters share.
pub(crate) type Outcome = Result<Token, TokenError>;

#[derive(Clone)]
pub(in crate::cache) struct FetchReceiver {
    pub(super) receiver: watch::Receiver<Option<Outcome>>,
    /// Monotonic. A fetch that has not ended by then counts as dead.
    pub(super) deadline: u64,
}

impl FetchReceiver {
    /// Returns `true` if the fetch is neither dead nor past its deadline.
    pub(super) fn is_pending(&self, now: Moment) -> bool {
        self.receiver.has_changed().is_ok() && now.monotonic < self.deadline
    }

    /// Waits for the outcome. Returns `None` if the fetch died.
    pub(in crate::cache) async fn outcome(&mut self) -> Option<Outcome> {
        self.receiver.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Returns how long to wait before asking the slot again whether the fetch is still pending.
    pub(in crate::cache) fn remaining(&self, now: Moment) -> Duration {
        Duration::from_nanos(self.deadline.saturating_sub(now.monotonic))
    }
}
