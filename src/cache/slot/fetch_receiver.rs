//! Where the outcome of a flight arrives, and how long it is worth waiting for.

use std::time::Duration;

use tokio::sync::watch;

use crate::{clock::Moment, error::TokenError, token::Token};

/// What a flight brings, for everybody who waits for it.
pub(in crate::cache) type Outcome = Result<Token, TokenError>;

/// Where the outcome of a flight arrives.
#[derive(Clone)]
pub(in crate::cache) struct Landing {
    receiver: watch::Receiver<Option<Outcome>>,
    overdue: u64,
}

impl Landing {
    /// Where the flight with this channel lands; not heard of until `overdue` (monotonic), it counts as dead.
    pub(super) fn new(receiver: watch::Receiver<Option<Outcome>>, overdue: u64) -> Self {
        Self { receiver, overdue }
    }

    /// The flight is not started yet: it counts as dead later.
    pub(super) fn delay(&mut self, overdue: u64) {
        self.overdue = overdue;
    }

    /// Whether the flight is under way: not dead, and heard of in time.
    pub(super) fn is_to_come(&self, now: Moment) -> bool {
        self.receiver.has_changed().is_ok() && now.monotonic < self.overdue
    }

    /// Waits for the outcome; none if the flight died.
    pub(in crate::cache) async fn outcome(&mut self) -> Option<Outcome> {
        let outcome = self.receiver.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }

    /// How long to wait before asking the slot again whether the flight is still under way.
    pub(in crate::cache) fn patience(&self, now: Moment) -> Duration {
        Duration::from_nanos(self.overdue.saturating_sub(now.monotonic))
    }
}
