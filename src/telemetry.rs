//! What an operator sees: each thing that happens is told once, to the log, the metrics and a hook of one's own.
//!
//! Log events have the target `tower_bearer`. What repairs itself is at `DEBUG`; what an operator should look into is at
//! `WARN`. A fetch is a span, so that what its source logs stands inside.
//!
//! | event | level | fields |
//! |---|---|---|
//! | span `fetch` | DEBUG | `spec`, `reason` |
//! | a token request failed and is tried again | DEBUG | `spec`, `kind`, `attempt`, `pause` |
//! | a token was fetched | DEBUG | `spec`, `generation`, `reason`, `lifetime`, `elapsed` |
//! | no token could be fetched | WARN | `spec`, `reason`, `kind`, `error`, `elapsed` |
//! | a request waited for a token | DEBUG | `spec`, `elapsed` |
//! | a token was rejected | DEBUG | `spec`, `generation` |
//! | tokens are rejected again and again | WARN at first, then DEBUG | `spec`, `generation` |
//! | a response refused the token | DEBUG | `spec`, `generation`, `recovery` |
//! | a token was taken from the store | DEBUG | `spec`, `generation`, `reason`, `lifetime`, `elapsed` |
//! | the store fails | WARN at first, then DEBUG | `work`, `kind`, `error` |
//! | the store is back | INFO | `work`, `after` |
//! | what the store keeps can't be opened | WARN at first, then DEBUG | `spec`, `why` |
//!
//! With the feature `metrics`, the same goes to the recorder of the `metrics` crate:
//!
//! | metric | kind | labels |
//! |---|---|---|
//! | `tower_bearer_hits_total` | counter | `state`: `fresh`, `stale` |
//! | `tower_bearer_misses_total` | counter | |
//! | `tower_bearer_wait_seconds` | histogram | |
//! | `tower_bearer_fetches_total` | counter | `outcome`: `ok`, or an error's kind |
//! | `tower_bearer_fetch_seconds` | histogram | |
//! | `tower_bearer_token_requests_total` | counter | |
//! | `tower_bearer_rejections_total` | counter | |
//! | `tower_bearer_storms_total` | counter | |
//! | `tower_bearer_replays_total` | counter | `outcome`: a [`Recovery`]'s name |
//! | `tower_bearer_evictions_total` | counter | |
//! | `tower_bearer_store_loads_total` | counter | `outcome`: `hit`, `miss`, `unreadable` |
//! | `tower_bearer_store_load_seconds` | histogram | |
//! | `tower_bearer_store_errors_total` | counter | `work`: `reading`, `writing`; `kind`: an error's kind |
//! | `tower_bearer_store_outages_total` | counter | `work` |
//! | `tower_bearer_entries`, `tower_bearer_bytes` | gauge | |
//!
//! A fetch whose task died without a word is counted in [`TokenCache::stats`](crate::TokenCache::stats) alone.
//!
//! Hits are counted by each handle for itself, so that a hit stays cheap. They, evictions and the gauges reach the recorder
//! after each fetch, and when [`TokenCache::publish_metrics`](crate::TokenCache::publish_metrics) is called: do so before a
//! scrape.

use std::{fmt, sync::Arc, time::Duration};

use tracing::{Span, debug, debug_span, info, warn};

#[cfg(feature = "store")]
use crate::store::StoreError;
use crate::{
    error::TokenError,
    token::{FetchReason, Token, TokenSpec},
    verdict::Recovery,
};

/// Is told what happens in a cache and in the layers over it.
///
/// It is called from wherever that is, a request's own task among others: be quick, and don't block.
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use tower_bearer::{NewToken, TokenCache, TokenSpec, source};
/// use tower_bearer::telemetry::{TokenEvent, TokenEvents};
///
/// static FETCHED: AtomicU32 = AtomicU32::new(0);
///
/// struct Audit;
///
/// impl TokenEvents for Audit {
///     fn on_event(&self, event: &TokenEvent<'_>) {
///         if let TokenEvent::Fetched { token, .. } = event {
///             FETCHED.fetch_add(1, Ordering::Relaxed);
///             println!("generation {} for {:?}", token.generation(), token.spec());
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::TokenError> {
/// let source = source::from_fn(async |_| NewToken::bearer("abc"));
/// let cache = TokenCache::builder(source).with_events(Audit).build();
/// cache.get(&TokenSpec::scopes(["read"])).await?;
/// assert_eq!(FETCHED.load(Ordering::Relaxed), 1);
/// # Ok(()) }
/// ```
pub trait TokenEvents: Send + Sync + 'static {
    /// Something happened.
    fn on_event(&self, event: &TokenEvent<'_>);
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum TokenEvent<'a> {
    /// An attempt to fetch failed, and another follows after a pause.
    AttemptFailed {
        /// For what.
        spec: &'a TokenSpec,
        /// Which attempt it was, from 1.
        attempt: u32,
        /// Why.
        error: &'a TokenError,
        /// How long until the next.
        pause: Duration,
    },
    /// A token was fetched, and is in service.
    Fetched {
        /// The token.
        token: &'a Token,
        /// How long that took, all attempts together.
        elapsed: Duration,
    },
    /// No token could be fetched.
    FetchFailed {
        /// For what.
        spec: &'a TokenSpec,
        /// What it was wanted for.
        reason: FetchReason,
        /// Why not.
        error: &'a TokenError,
        /// How long that took, all attempts together.
        elapsed: Duration,
    },
    /// Somebody waited for a token, whether it came or not.
    Waited {
        /// For what.
        spec: &'a TokenSpec,
        /// How long.
        elapsed: Duration,
    },
    /// A token was taken out of service, because a server refused it.
    Rejected {
        /// What it was for.
        spec: &'a TokenSpec,
        /// Which one it was.
        generation: u64,
    },
    /// A server refused a token, as happened too often lately: it stays in service.
    RejectionLimitReached {
        /// What it is for.
        spec: &'a TokenSpec,
        /// Which one it is.
        generation: u64,
        /// Whether this is the first of its kind since a refusal was last believed.
        first: bool,
    },
    /// A response refused the token, and this was done about it.
    Refused {
        /// What the token was for.
        spec: &'a TokenSpec,
        /// Which one it was.
        generation: u64,
        /// What was done.
        recovery: &'a Recovery,
    },
    /// A token was taken from the store behind the cache, and is in service.
    Loaded {
        /// The token.
        token: &'a Token,
        /// How long that took, the wait for another process's fetch included.
        elapsed: Duration,
    },
    /// The store did not do what it was asked. It is left alone for a while, and the cache does without.
    #[cfg(feature = "store")]
    #[cfg_attr(docsrs, doc(cfg(feature = "store")))]
    StoreFailed {
        /// What it was asked for.
        work: StoreWork,
        /// Why not.
        error: &'a StoreError,
        /// Whether it worked until now.
        first: bool,
    },
    /// The store works again.
    StoreBack {
        /// What it was asked for.
        work: StoreWork,
        /// How long it did not.
        after: Duration,
    },
    /// What the store keeps for this can't be opened. It counts as nothing, and is replaced by what is fetched.
    StoreUnreadable {
        /// For what.
        spec: &'a TokenSpec,
        /// `version`, `key`, `damaged` or `malformed`.
        why: &'static str,
        /// Whether the last that was found could be opened.
        first: bool,
    },
}

/// What a store is used for. Each may fail by itself: one that is out of memory can still be read.
///
/// ```
/// assert_eq!(tower_bearer::telemetry::StoreWork::Reading.as_str(), "reading");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreWork {
    /// To look for a token.
    Reading,
    /// To put one there or take one out, or to have the right to fetch it.
    Writing,
}

impl StoreWork {
    /// Its name, for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Writing => "writing",
        }
    }
}

/// Tells everybody who wants to know.
#[derive(Clone, Default)]
pub(crate) struct Telemetry {
    hook: Option<Arc<dyn TokenEvents>>,
}

impl Telemetry {
    pub(crate) fn with_hook(hook: impl TokenEvents) -> Self {
        let hook: Arc<dyn TokenEvents> = Arc::new(hook);
        Self { hook: Some(hook) }
    }

    pub(crate) fn tell(&self, event: &TokenEvent<'_>) {
        log(event);
        #[cfg(feature = "metrics")]
        measure(event);
        if let Some(hook) = &self.hook {
            hook.on_event(event);
        }
    }

    /// The span of a fetch.
    pub(crate) fn fetch_span(spec: &TokenSpec, reason: FetchReason) -> Span {
        debug_span!(target: "tower_bearer", "fetch", ?spec, reason = reason.as_str())
    }

    /// Somebody begins to wait.
    pub(crate) fn miss() {
        #[cfg(feature = "metrics")]
        metrics::counter!("tower_bearer_misses_total").increment(1);
    }

    /// A flight found its token in the store, or did not.
    #[cfg(feature = "store")]
    pub(crate) fn store_load(_outcome: &'static str) {
        #[cfg(feature = "metrics")]
        metrics::counter!("tower_bearer_store_loads_total", "outcome" => _outcome).increment(1);
    }

    /// A request goes to the token endpoint.
    pub(crate) fn token_request() {
        #[cfg(feature = "metrics")]
        metrics::counter!("tower_bearer_token_requests_total").increment(1);
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.hook.is_some() {
            "with a hook"
        } else {
            "without a hook"
        })
    }
}

fn log(event: &TokenEvent<'_>) {
    match *event {
        TokenEvent::AttemptFailed {
            spec,
            attempt,
            error,
            pause,
        } => debug!(
            target: "tower_bearer",
            ?spec, kind = error.kind().as_str(), attempt, ?pause,
            "a token request failed and is tried again"
        ),
        TokenEvent::Fetched { token, elapsed } => debug!(
            target: "tower_bearer",
            spec = ?token.spec(), generation = token.generation(), reason = token.reason().as_str(),
            lifetime = ?token.lifetime(), ?elapsed,
            "a token was fetched"
        ),
        TokenEvent::FetchFailed {
            spec,
            reason,
            error,
            elapsed,
        } => warn!(
            target: "tower_bearer",
            ?spec, reason = reason.as_str(), kind = error.kind().as_str(), %error, ?elapsed,
            "no token could be fetched"
        ),
        TokenEvent::Waited { spec, elapsed } => debug!(
            target: "tower_bearer",
            ?spec, ?elapsed,
            "a request waited for a token"
        ),
        TokenEvent::Rejected { spec, generation } => debug!(
            target: "tower_bearer",
            ?spec, generation,
            "a token was rejected"
        ),
        TokenEvent::RejectionLimitReached {
            spec,
            generation,
            first: true,
        } => warn!(
            target: "tower_bearer",
            ?spec, generation,
            "tokens are rejected again and again: 401s pass until that ends"
        ),
        TokenEvent::RejectionLimitReached {
            spec,
            generation,
            first: false,
        } => debug!(
            target: "tower_bearer",
            ?spec, generation,
            "tokens are rejected again and again: 401s pass until that ends"
        ),
        TokenEvent::Refused {
            spec,
            generation,
            recovery,
        } => debug!(
            target: "tower_bearer",
            ?spec, generation, recovery = recovery.as_str(),
            "a response refused the token"
        ),
        TokenEvent::Loaded { token, elapsed } => debug!(
            target: "tower_bearer",
            spec = ?token.spec(), generation = token.generation(), reason = token.reason().as_str(),
            lifetime = ?token.lifetime(), ?elapsed,
            "a token was taken from the store"
        ),
        #[cfg(feature = "store")]
        TokenEvent::StoreFailed {
            work,
            error,
            first: true,
        } => warn!(
            target: "tower_bearer",
            work = work.as_str(), kind = error.kind().as_str(), %error,
            "the store fails: the cache does without, and tries again by itself"
        ),
        #[cfg(feature = "store")]
        TokenEvent::StoreFailed {
            work,
            error,
            first: false,
        } => debug!(
            target: "tower_bearer",
            work = work.as_str(), kind = error.kind().as_str(), %error,
            "the store still fails"
        ),
        TokenEvent::StoreBack { work, after } => info!(
            target: "tower_bearer",
            work = work.as_str(), ?after,
            "the store is back"
        ),
        TokenEvent::StoreUnreadable {
            spec,
            why,
            first: true,
        } => warn!(
            target: "tower_bearer",
            ?spec, why,
            "what the store keeps can't be opened, and is replaced: is it another program's, or sealed with a key that is not in \
             the ring?"
        ),
        TokenEvent::StoreUnreadable {
            spec,
            why,
            first: false,
        } => debug!(
            target: "tower_bearer",
            ?spec, why,
            "what the store keeps can't be opened, and is replaced"
        ),
    }
}

#[cfg(feature = "metrics")]
fn measure(event: &TokenEvent<'_>) {
    use metrics::{counter, histogram};

    match *event {
        TokenEvent::AttemptFailed { .. } => {}
        TokenEvent::Fetched { elapsed, .. } => {
            counter!("tower_bearer_fetches_total", "outcome" => "ok").increment(1);
            histogram!("tower_bearer_fetch_seconds").record(elapsed);
        }
        TokenEvent::FetchFailed { error, elapsed, .. } => {
            let outcome = error.kind().as_str();
            counter!("tower_bearer_fetches_total", "outcome" => outcome).increment(1);
            histogram!("tower_bearer_fetch_seconds").record(elapsed);
        }
        TokenEvent::Waited { elapsed, .. } => {
            histogram!("tower_bearer_wait_seconds").record(elapsed);
        }
        TokenEvent::Rejected { .. } => counter!("tower_bearer_rejections_total").increment(1),
        TokenEvent::RejectionLimitReached { .. } => {
            counter!("tower_bearer_storms_total").increment(1)
        }
        TokenEvent::Refused { recovery, .. } => {
            counter!("tower_bearer_replays_total", "outcome" => recovery.as_str()).increment(1);
        }
        TokenEvent::Loaded { elapsed, .. } => {
            histogram!("tower_bearer_store_load_seconds").record(elapsed);
        }
        #[cfg(feature = "store")]
        TokenEvent::StoreFailed { work, error, first } => {
            let (work, kind) = (work.as_str(), error.kind().as_str());
            counter!("tower_bearer_store_errors_total", "work" => work, "kind" => kind)
                .increment(1);
            if first {
                counter!("tower_bearer_store_outages_total", "work" => work).increment(1);
            }
        }
        TokenEvent::StoreBack { .. } => {}
        TokenEvent::StoreUnreadable { .. } => {
            counter!("tower_bearer_store_loads_total", "outcome" => "unreadable").increment(1);
        }
    }
}

/// What is counted on the way and told in sums: the difference to what was told last.
#[cfg(feature = "metrics")]
#[derive(Debug, Default)]
pub(crate) struct Published {
    last: std::sync::Mutex<Sums>,
}

/// Sums that only grow, and two levels.
#[cfg(feature = "metrics")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) fresh_hits: u64,
    pub(crate) stale_hits: u64,
    pub(crate) evictions: u64,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

#[cfg(feature = "metrics")]
impl Published {
    /// Several caches add up: each tells what has changed.
    pub(crate) fn publish(&self, sums: Sums) {
        use metrics::{counter, gauge};

        let mut last = self
            .last
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let grown = |now: u64, then: u64| now.saturating_sub(then);
        counter!("tower_bearer_hits_total", "state" => "fresh")
            .increment(grown(sums.fresh_hits, last.fresh_hits));
        counter!("tower_bearer_hits_total", "state" => "stale")
            .increment(grown(sums.stale_hits, last.stale_hits));
        counter!("tower_bearer_evictions_total").increment(grown(sums.evictions, last.evictions));
        gauge!("tower_bearer_entries").increment(sums.entries as f64 - last.entries as f64);
        gauge!("tower_bearer_bytes").increment(sums.bytes as f64 - last.bytes as f64);
        *last = sums;
    }
}

/// What is gone is no longer held.
#[cfg(feature = "metrics")]
impl Drop for Published {
    fn drop(&mut self) {
        let last = *self
            .last
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        self.publish(Sums {
            entries: 0,
            bytes: 0,
            ..last
        });
    }
}
