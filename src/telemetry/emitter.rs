//! This module passes each event to the log, the metrics and the listener.

use std::{sync::Arc, time::Duration};

use tracing::{Span, debug, debug_span, info, warn};

use super::events::{TokenEvent, TokenEvents};
use crate::token::{FetchReason, Token, TokenSpec};

const TARGET: &str = "tower_bearer";

/// Reports events. Clones share the listener.
#[derive(Clone, Default)]
pub(crate) struct Telemetry {
    listener: Option<Arc<dyn TokenEvents>>,
}

impl Telemetry {
    pub(crate) fn with_listener(listener: impl TokenEvents) -> Self {
        Self {
            listener: Some(Arc::new(listener)),
        }
    }

    /// Reports an event.
    pub(crate) fn emit(&self, event: &TokenEvent<'_>) {
        report(event);
        if let Some(listener) = &self.listener {
            listener.on_event(event);
        }
    }

    /// Creates the span of a fetch.
    pub(crate) fn fetch_span(spec: &TokenSpec, reason: FetchReason) -> Span {
        debug_span!(target: TARGET, "fetch", ?spec, reason = reason.as_str())
    }

    /// Counts a request that has to wait for a token.
    pub(crate) fn miss() {
        count("tower_bearer_misses_total", &[]);
    }

    /// Counts a lookup in the store.
    #[cfg(feature = "store")]
    pub(crate) fn store_load(outcome: &'static str) {
        count("tower_bearer_store_loads_total", &[("outcome", outcome)]);
    }

    /// Counts a request to the token endpoint.
    pub(crate) fn token_request() {
        count("tower_bearer_token_requests_total", &[]);
    }
}

/// Logs at `WARN` if `$first` is true, otherwise at `DEBUG`.
macro_rules! warn_first {
    ($first:expr, $($event:tt)+) => {
        if $first {
            warn!(target: TARGET, $($event)+);
        } else {
            debug!(target: TARGET, $($event)+);
        }
    };
}

/// Logs an event and records its metrics.
fn report(event: &TokenEvent<'_>) {
    match *event {
        TokenEvent::AttemptFailed {
            spec,
            attempt,
            error,
            pause,
        } => {
            let kind = error.kind().as_str();
            debug!(target: TARGET, ?spec, kind, attempt, ?pause, "token request failed, retrying");
        }
        TokenEvent::Fetched { token, elapsed } => {
            log_token(token, elapsed, "token fetched");
            count("tower_bearer_fetches_total", &[("outcome", "ok")]);
            record("tower_bearer_fetch_seconds", elapsed);
        }
        TokenEvent::FetchFailed {
            spec,
            reason,
            error,
            elapsed,
        } => {
            let (reason, kind) = (reason.as_str(), error.kind().as_str());
            warn!(target: TARGET, ?spec, reason, kind, %error, ?elapsed, "fetching a token failed");
            count("tower_bearer_fetches_total", &[("outcome", kind)]);
            record("tower_bearer_fetch_seconds", elapsed);
        }
        TokenEvent::Waited { spec, elapsed } => {
            debug!(target: TARGET, ?spec, ?elapsed, "request waited for a token");
            record("tower_bearer_wait_seconds", elapsed);
        }
        TokenEvent::Rejected { spec, generation } => {
            debug!(target: TARGET, ?spec, generation, "token rejected");
            count("tower_bearer_rejections_total", &[]);
        }
        TokenEvent::RejectionLimitReached {
            spec,
            generation,
            first,
        } => {
            warn_first!(
                first,
                ?spec,
                generation,
                "too many rejections: keeping the token and passing 401s through"
            );
            count("tower_bearer_storms_total", &[]);
        }
        TokenEvent::RecoveryFinished {
            spec,
            generation,
            recovery,
        } => {
            let recovery = recovery.as_str();
            debug!(target: TARGET, ?spec, generation, recovery, "response rejected the token");
            count("tower_bearer_replays_total", &[("outcome", recovery)]);
        }
        TokenEvent::Loaded { token, elapsed } => {
            log_token(token, elapsed, "token loaded from the store");
            record("tower_bearer_store_load_seconds", elapsed);
        }
        #[cfg(feature = "store")]
        TokenEvent::StoreFailed { work, error, first } => {
            let (work, kind) = (work.as_str(), error.kind().as_str());
            warn_first!(first, work, kind, %error, "store failed: continuing without it, and retrying later");
            count(
                "tower_bearer_store_errors_total",
                &[("work", work), ("kind", kind)],
            );
            if first {
                count("tower_bearer_store_outages_total", &[("work", work)]);
            }
        }
        TokenEvent::StoreRecovered { work, after } => {
            info!(target: TARGET, work = work.as_str(), ?after, "store recovered");
        }
        TokenEvent::StoreUnreadable { spec, why, first } => {
            warn_first!(
                first,
                ?spec,
                why,
                "stored token can't be decrypted, and is replaced: check that the key ring contains its key, and that no other \
                 program uses this store"
            );
            count(
                "tower_bearer_store_loads_total",
                &[("outcome", "unreadable")],
            );
        }
    }
}

fn log_token(token: &Token, elapsed: Duration, message: &str) {
    debug!(
        target: TARGET,
        spec = ?token.spec(), generation = token.generation(), reason = token.reason().as_str(),
        lifetime = ?token.lifetime(), ?elapsed,
        "{message}"
    );
}

/// Increments a counter, with the feature `metrics`.
fn count(_name: &'static str, _labels: &[(&'static str, &'static str)]) {
    #[cfg(feature = "metrics")]
    metrics::counter!(_name, _labels).increment(1);
}

/// Records a duration in a histogram, with the feature `metrics`.
fn record(_name: &'static str, _duration: Duration) {
    #[cfg(feature = "metrics")]
    metrics::histogram!(_name).record(_duration);
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telemetry(_)")
    }
}
