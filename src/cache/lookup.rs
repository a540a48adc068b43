//! Implements [`lookup`], which returns the token of a slot or a waiter for it. Everything that needs a token calls it.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    fetch,
    shared::CacheHandle,
    slot::{FetchReceiver, Need, Outcome, Slot, SlotAnswer},
    stats::count,
};
use crate::{
    error::{ErrorKind, TokenError},
    telemetry::{Telemetry, TokenEvent},
    token::Token,
    util::timer,
};

/// How many fetches may die while a caller waits before it gets an error.
const MAX_DEATHS: u32 = 3;

/// The answer to a caller that needs a token.
pub(crate) enum Lookup {
    /// The token can be sent now. If it is stale, its refresh has been started.
    Ready(Token),
    /// A fetch is in progress, or its remembered error is returned at once.
    Wait(Waiter),
}

/// Waits for the token of a slot. It holds a handle of the cache, which keeps the fetch alive.
pub(crate) struct Waiter {
    cache: Arc<CacheHandle>,
    slot: Arc<Slot>,
    need: Need,
    /// The fetch to wait for, or the error of a back-off.
    pending: Result<FetchReceiver, TokenError>,
}

/// Returns the token of the slot, or a waiter for it. Starts a fetch if one is needed and none is in progress.
pub(super) fn lookup(cache: &Arc<CacheHandle>, slot: &Arc<Slot>, need: Need) -> Lookup {
    let shared = &cache.shared;
    let now = shared.now();
    if need == Need::Usable
        && let Some(token) = slot.usable(now)
    {
        return Lookup::Ready(token);
    }
    // While the source backs off, a store may still have a token.
    let source_error = if shared.has_store() {
        None
    } else {
        shared.source_error(now)
    };
    let (answer, guard) = slot.request(need, now, shared.fetch_deadline(now), source_error);
    if let Some(guard) = guard {
        fetch::spawn(cache, guard);
    }
    let pending = match answer {
        SlotAnswer::Ready(token) => return Lookup::Ready(token),
        SlotAnswer::Wait(receiver) => Ok(receiver),
        SlotAnswer::BackingOff(error) => Err(error),
    };
    Lookup::Wait(Waiter {
        cache: Arc::clone(cache),
        slot: Arc::clone(slot),
        need,
        pending,
    })
}

impl Lookup {
    /// Returns the token, or waits for it.
    pub(super) async fn token(self) -> Outcome {
        match self {
            Self::Ready(token) => Ok(token),
            Self::Wait(waiter) => waiter.wait().await,
        }
    }
}

impl Waiter {
    /// Waits for the token, and counts and times the wait as a miss.
    pub(crate) async fn wait_as_miss(self) -> Outcome {
        let start = Instant::now();
        let (cache, slot) = (Arc::clone(&self.cache), Arc::clone(&self.slot));
        count(&cache.shared.counters.misses);
        Telemetry::miss();
        let outcome = self.wait().await;
        cache.shared.settings.telemetry.emit(&TokenEvent::Waited {
            spec: slot.spec(),
            elapsed: start.elapsed(),
        });
        outcome
    }

    /// Waits for the token. If a fetch dies, or its token can't be sent any more, asks the slot again.
    pub(crate) async fn wait(mut self) -> Outcome {
        let mut deaths = 0;
        loop {
            let mut receiver = self.pending?;
            let shared = &self.cache.shared;
            let limit = receiver.remaining(shared.now());
            match timer::within(limit, receiver.outcome()).await {
                // The token was rejected or has expired in the meantime. If it was only removed from the cache, it can be sent.
                Some(Some(Ok(token))) if self.slot.is_unusable(&token, shared.now()) => {}
                Some(Some(outcome)) => return outcome,
                Some(None) => deaths += 1,
                // The fetch is past its deadline.
                None => {}
            }
            if deaths == MAX_DEATHS {
                return Err(TokenError::new(
                    ErrorKind::Unavailable,
                    "the token source ended three times without a result: it panics, or its runtime was shut down",
                ));
            }
            self.pending = match lookup(&self.cache, &self.slot, self.need) {
                Lookup::Ready(token) => return Ok(token),
                Lookup::Wait(waiter) => waiter.pending,
            };
        }
    }
}
