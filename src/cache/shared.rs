//! What all clones of a cache share: the source, the map, the clock, the counters.
//!
//! It comes in two parts, since a task that fetches must not keep its cache alive. [`Works`] is what such a task needs;
//! [`Core`] adds the end that tells the tasks when the last handle is gone.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

#[cfg(feature = "store")]
use super::second_level::SharedStore;
use super::{
    backoff::Hold,
    builder::{CacheBuilder, Settings},
    fetch_limit::Places,
    map::SlotMap,
    slot::Slot,
    stats::Counters,
};
use crate::{
    clock::Moment,
    error::{ErrorKind, TokenError},
    source::SharedSource,
};

const LOOKS_APART: Duration = Duration::from_secs(1);

pub(super) struct Core {
    pub(super) works: Arc<Works>,
    /// Goes with the last handle; nothing is ever sent.
    alive: watch::Sender<()>,
}

impl Core {
    pub(super) fn new(builder: CacheBuilder) -> Self {
        #[cfg(feature = "store")]
        let fleet = builder
            .vault
            .map(|vault| SharedStore::new(vault, builder.namespace));
        let CacheBuilder {
            source, settings, ..
        } = builder;
        let works = Works {
            map: SlotMap::new(settings.max_entries, settings.max_bytes),
            places: Places::new(settings.max_flights),
            source,
            settings,
            counters: Arc::default(),
            #[cfg(feature = "metrics")]
            published: Default::default(),
            hold: Mutex::new(None),
            next_look: AtomicU64::new(0),
            #[cfg(feature = "store")]
            fleet,
        };
        Self {
            works: Arc::new(works),
            alive: watch::Sender::new(()),
        }
    }

    /// Ends with an error when the last handle is gone.
    pub(super) fn alive(&self) -> watch::Receiver<()> {
        self.alive.subscribe()
    }
}

pub(super) struct Works {
    pub(super) source: SharedSource,
    pub(super) settings: Settings,
    pub(super) map: SlotMap,
    pub(super) counters: Arc<Counters>,
    pub(super) places: Places,
    #[cfg(feature = "metrics")]
    published: crate::telemetry::Published,
    hold: Mutex<Option<Hold>>,
    /// Not before then is the source asked whether its credential has changed.
    next_look: AtomicU64,
    #[cfg(feature = "store")]
    pub(super) fleet: Option<SharedStore>,
}

impl Works {
    #[inline]
    pub(super) fn now(&self) -> Moment {
        self.settings.clock.now()
    }

    /// A flight that has not been heard of until then counts as dead: twice its deadline.
    pub(super) fn overdue(&self, now: Moment) -> Moment {
        now + self.settings.fetch_timeout.saturating_mul(2)
    }

    /// Tells the metrics what is counted on the way.
    pub(super) fn publish_metrics(&self) {
        #[cfg(feature = "metrics")]
        let stale_hits = self.counters.stale_hits.load(Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        self.published.publish(crate::telemetry::Sums {
            fresh_hits: self.counters.hits().saturating_sub(stale_hits),
            stale_hits,
            evictions: self.map.evictions(),
            entries: self.map.len() as u64,
            bytes: self.map.bytes(),
        });
    }

    /// The error for which the whole source is left alone, if it is.
    pub(super) fn held(&self, now: Moment) -> Option<TokenError> {
        let error = {
            let hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
            hold.as_ref()?.error(now)?
        };
        if self.credential_changed(&error, now) {
            self.forget_hold();
            return None;
        }
        Some(error)
    }

    /// Whether the failure was that of a credential which has been replaced since. The source may have to read a file to
    /// know, so it is asked once in a while only, and by nobody who has a token.
    fn credential_changed(&self, error: &TokenError, now: Moment) -> bool {
        // A certificate that is refused breaks the connection.
        if !matches!(error.kind(), ErrorKind::InvalidClient | ErrorKind::Network) {
            return false;
        }
        let due = self.next_look.load(Ordering::Relaxed);
        let next = (now + LOOKS_APART).monotonic;
        let mine = || {
            self.next_look
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
        };
        if now.monotonic < due || mine().is_err() {
            return false;
        }
        // It is the user's code, and not in a task of its own.
        let ask = AssertUnwindSafe(|| self.source.has_another_credential(error));
        catch_unwind(ask).unwrap_or(false)
    }

    /// The same, for somebody who wants a token: where there is a store, it may have one nevertheless.
    pub(super) fn held_for_all(&self, now: Moment) -> Option<TokenError> {
        if self.has_store() {
            return None;
        }
        self.held(now)
    }

    /// Whether a second level stands behind this cache.
    pub(super) fn has_store(&self) -> bool {
        #[cfg(feature = "store")]
        let has_store = self.fleet.is_some();
        #[cfg(not(feature = "store"))]
        let has_store = false;
        has_store
    }

    /// What serves here is to be forgotten: it is not taken from the store again.
    pub(super) fn disown(&self, _slot: &Slot) {
        #[cfg(feature = "store")]
        if let (Some(fleet), Some(token)) = (&self.fleet, _slot.token()) {
            fleet.forget(&token);
        }
    }

    /// Leaves the whole source alone for a while, and says until when.
    pub(super) fn hold_source(&self, error: &TokenError, now: Moment) -> Moment {
        let mut hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        let next = Hold::after(hold.as_ref(), error.clone(), now, chance());
        let until = next.until();
        *hold = Some(next);
        until
    }

    /// The source has answered.
    pub(super) fn release_source(&self, now: Moment) {
        let mut hold = self.hold.lock().unwrap_or_else(PoisonError::into_inner);
        if hold
            .as_ref()
            .is_some_and(|hold| hold.yields_to_success(now))
        {
            *hold = None;
        }
    }

    /// Forgets what the source is left alone for.
    pub(super) fn forget_hold(&self) {
        *self.hold.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
impl Works {
    pub(super) fn hold_hold(&self) -> impl Sized + '_ {
        self.hold.lock().unwrap()
    }
}

/// A number that no other token of this process has or will have: a token of one cache is none of another's.
pub(super) fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A number from 0 to 1, to keep a fleet out of step. Nothing secret hangs on it.
pub(super) fn chance() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1u64 << 53) as f64
}
