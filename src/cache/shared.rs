//! Defines the state that all clones of a cache share, and creates it.
//!
//! It has two parts, because a fetch must not keep its cache alive: [`CacheShared`] is what a fetch needs, and
//! [`CacheHandle`] adds the sender whose drop tells the fetches that the last handle is gone.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::watch;

#[cfg(feature = "store")]
use super::second_level::SharedStore;
use super::{
    backoff::Backoff,
    builder::{CacheBuilder, Settings},
    fetch_limit::FetchLimit,
    map::SlotMap,
    slot::Slot,
    stats::Counters,
};
use crate::{
    clock::Moment,
    error::{ErrorKind, TokenError},
    source::SharedSource,
};

/// The source is asked at most once per this time whether its credential has changed.
const CREDENTIAL_CHECK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct CacheHandle {
    pub(super) shared: Arc<CacheShared>,
    /// Dropped with the last handle. Nothing is ever sent.
    pub(super) last_handle: watch::Sender<()>,
}

impl CacheHandle {
    pub(super) fn new(builder: CacheBuilder) -> Self {
        let settings = builder.settings;
        let shared = CacheShared {
            map: SlotMap::new(settings.max_entries, settings.max_bytes),
            fetch_limit: FetchLimit::new(settings.max_fetches),
            source: builder.source,
            settings,
            counters: Counters::default(),
            #[cfg(feature = "metrics")]
            published: Default::default(),
            source_backoff: Mutex::new(None),
            next_credential_check: AtomicU64::new(0),
            #[cfg(feature = "store")]
            store: builder
                .store
                .map(|store| SharedStore::new(store, builder.namespace)),
        };
        Self {
            shared: Arc::new(shared),
            last_handle: watch::Sender::new(()),
        }
    }
}

pub(super) struct CacheShared {
    pub(super) source: SharedSource,
    pub(super) settings: Settings,
    pub(super) map: SlotMap,
    pub(super) counters: Counters,
    pub(super) fetch_limit: FetchLimit,
    #[cfg(feature = "metrics")]
    published: crate::telemetry::PublishedMetrics,
    source_backoff: Mutex<Option<Backoff>>,
    /// Monotonic.
    next_credential_check: AtomicU64,
    #[cfg(feature = "store")]
    pub(super) store: Option<SharedStore>,
}

impl CacheShared {
    #[inline]
    pub(super) fn now(&self) -> Moment {
        self.settings.clock.now()
    }

    /// Returns when a fetch that starts now counts as dead if it has not ended: after twice its timeout.
    pub(super) fn fetch_deadline(&self, now: Moment) -> Moment {
        now + self.settings.fetch_timeout.saturating_mul(2)
    }

    /// Passes counters that are not events to the `metrics` recorder.
    pub(super) fn publish_metrics(&self) {
        #[cfg(feature = "metrics")]
        {
            let stale_hits = self.counters.stale_hits.load(Relaxed);
            self.published.publish(crate::telemetry::MetricSums {
                fresh_hits: self.counters.hits.sum().saturating_sub(stale_hits),
                stale_hits,
                evictions: self.map.evictions(),
                entries: self.map.len() as u64,
                bytes: self.map.bytes(),
            });
        }
    }

    /// Returns the error for which the whole source backs off, if it does. A changed credential ends that back-off.
    pub(super) fn source_error(&self, now: Moment) -> Option<TokenError> {
        let error = self.source_backoff().as_ref()?.error(now)?;
        if self.is_credential_changed(&error, now) {
            *self.source_backoff() = None;
            return None;
        }
        Some(error)
    }

    /// Returns `true` if the failed credential has been replaced. The source may have to read a file to know that, so it is
    /// asked at most once per second, and only on behalf of callers without a token.
    fn is_credential_changed(&self, error: &TokenError, now: Moment) -> bool {
        // A rejected client certificate breaks the connection, hence `Network`.
        if !matches!(error.kind(), ErrorKind::InvalidClient | ErrorKind::Network) {
            return false;
        }
        let next = (now + CREDENTIAL_CHECK_INTERVAL).monotonic;
        let claim = |due| (now.monotonic >= due).then_some(next);
        let check = &self.next_credential_check;
        if check.fetch_update(Relaxed, Relaxed, claim).is_err() {
            return false;
        }
        // This is the user's code, and it runs in the caller's task.
        let ask_source = AssertUnwindSafe(|| self.source.has_another_credential(error));
        catch_unwind(ask_source).unwrap_or(false)
    }

    /// Returns `true` if the cache has a store as its second level.
    pub(super) fn has_store(&self) -> bool {
        #[cfg(feature = "store")]
        let has_store = self.store.is_some();
        #[cfg(not(feature = "store"))]
        let has_store = false;
        has_store
    }

    /// Removes the slot from the map, and makes sure that its token is not loaded from the store again. Returns `true` if it had a
    /// token.
    pub(super) fn remove(&self, slot: Arc<Slot>) -> bool {
        #[cfg(feature = "store")]
        if let (Some(store), Some(token)) = (&self.store, slot.token()) {
            store.forget(&token);
        }
        self.map.remove(slot)
    }

    /// Backs off the whole source, and returns until when.
    pub(super) fn back_off_source(&self, error: &TokenError, now: Moment) -> Moment {
        let mut backoff = self.source_backoff();
        let next = Backoff::after(backoff.as_ref(), error.clone(), now, random_fraction());
        backoff.insert(next).until
    }

    /// Ends the back-off of the source after it has returned a token, unless the server asked for it.
    pub(super) fn source_succeeded(&self, now: Moment) {
        self.source_backoff()
            .take_if(|backoff| backoff.is_cleared_by_success(now));
    }

    pub(super) fn source_backoff(&self) -> MutexGuard<'_, Option<Backoff>> {
        self.source_backoff
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a generation: a number that no other token of this process has, in any cache.
pub(super) fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// Returns a number between 0 and 1 for jitter. No secret depends on it.
pub(super) fn random_fraction() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1u64 << 53) as f64
}
