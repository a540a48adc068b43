//! Holds the store behind a cache and what the cache knows about it, and calls it within bounds.

use std::{
    future,
    panic::{self, AssertUnwindSafe},
    pin::pin,
    sync::atomic::AtomicBool,
    task::Poll,
    time::Duration,
};

use tokio::time;

use super::{breaker::CircuitBreaker, rejected::RejectedTokens};
use crate::{
    cache::{
        shared::{CacheShared, random_fraction},
        stats::count,
    },
    store::{EncryptedStore, StoreError, StoreErrorKind, TokenDigest},
    telemetry::{StoreWork, TokenEvent},
    token::Token,
};

/// The store behind a cache, shared by all lookups.
///
/// The circuit breaker has a state for reads and one for writes, because a store may refuse writes (a replica, a full disk)
/// and still be readable.
pub(in crate::cache) struct SharedStore {
    pub(super) store: EncryptedStore,
    /// Separates the tokens of this cache from those of other caches in the same store.
    pub(super) namespace: Option<Box<str>>,
    pub(super) reads: CircuitBreaker,
    writes: CircuitBreaker,
    /// Whether the last value read could not be decrypted.
    pub(super) unreadable: AtomicBool,
    pub(super) rejected: RejectedTokens,
}

/// The store has failed, or is not called because it has failed before.
pub(super) struct StoreDown;

impl SharedStore {
    pub(in crate::cache) fn new(store: EncryptedStore, namespace: Option<Box<str>>) -> Self {
        Self {
            store,
            namespace,
            reads: CircuitBreaker::default(),
            writes: CircuitBreaker::default(),
            unreadable: AtomicBool::new(false),
            rejected: RejectedTokens::default(),
        }
    }

    /// Makes this process ignore the token if the store still contains it.
    pub(in crate::cache) fn forget(&self, token: &Token) {
        self.rejected.add(TokenDigest::of(token.expose()));
    }

    /// Runs a call to the store within a time limit, unless the circuit breaker is open.
    ///
    /// A panic of the store counts as a failure. The operator is notified when an outage begins and when it ends.
    pub(super) async fn call<T>(
        &self,
        work: StoreWork,
        limit: Duration,
        operation: impl Future<Output = Result<T, StoreError>>,
        cache: &CacheShared,
    ) -> Result<T, StoreDown> {
        let breaker = match work {
            StoreWork::Reading => &self.reads,
            StoreWork::Writing => &self.writes,
        };
        let start = cache.now();
        if !breaker.allows_call(start) {
            return Err(StoreDown);
        }
        let limit = limit.min(cache.settings.fetch_timeout);
        let outcome = time::timeout(limit, catch_panic(operation)).await;
        let outcome = outcome.unwrap_or_else(|_| {
            Err(StoreError::timeout(format!(
                "the store did not respond within {limit:?}: check its load and the network"
            )))
        });
        let telemetry = &cache.settings.telemetry;
        let now = cache.now();
        match outcome {
            Ok(done) => {
                if let Some(after) = breaker.succeeded(now) {
                    telemetry.emit(&TokenEvent::StoreRecovered { work, after });
                }
                Ok(done)
            }
            Err(error) => {
                count(&cache.counters.store_errors);
                let is_timeout = error.kind() == StoreErrorKind::Timeout;
                let first = breaker.failed(start, is_timeout, now, random_fraction());
                telemetry.emit(&TokenEvent::StoreFailed {
                    work,
                    error: &error,
                    first,
                });
                Err(StoreDown)
            }
        }
    }
}

/// Runs the operation and turns a panic into an error.
async fn catch_panic<T>(
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let mut operation = pin!(operation);
    future::poll_fn(|cx| {
        let poll = AssertUnwindSafe(|| operation.as_mut().poll(cx));
        panic::catch_unwind(poll).unwrap_or_else(|_| {
            Poll::Ready(Err(StoreError::new(
                StoreErrorKind::Broken,
                "the store panicked: the panic hook has received the message",
            )))
        })
    })
    .await
}
