//! This module passes each event to the log, the metrics and the listener.

use std::{fmt, sync::Arc};

use tracing::{Span, debug_span};

#[cfg(feature = "metrics")]
use super::metrics::measure;
use super::{
    events::{TokenEvent, TokenEvents},
    log::log,
};
use crate::token::{FetchReason, TokenSpec};

/// Reports events. Clones share the listener.
#[derive(Clone, Default)]
pub(crate) struct Telemetry {
    listener: Option<Arc<dyn TokenEvents>>,
}

impl Telemetry {
    pub(crate) fn with_listener(listener: impl TokenEvents) -> Self {
        let listener: Arc<dyn TokenEvents> = Arc::new(listener);
        Self {
            listener: Some(listener),
        }
    }

    /// Reports an event.
    pub(crate) fn emit(&self, event: &TokenEvent<'_>) {
        log(event);
        #[cfg(feature = "metrics")]
        measure(event);
        if let Some(listener) = &self.listener {
            listener.on_event(event);
        }
    }

    /// Creates the span of a fetch.
    pub(crate) fn fetch_span(spec: &TokenSpec, reason: FetchReason) -> Span {
        debug_span!(target: "tower_bearer", "fetch", ?spec, reason = reason.as_str())
    }

    /// Counts a request that has to wait for a token.
    pub(crate) fn miss() {
        #[cfg(feature = "metrics")]
        metrics::counter!("tower_bearer_misses_total").increment(1);
    }

    /// Counts a lookup in the store.
    #[cfg(feature = "store")]
    pub(crate) fn store_load(_outcome: &'static str) {
        #[cfg(feature = "metrics")]
        metrics::counter!("tower_bearer_store_loads_total", "outcome" => _outcome).increment(1);
    }

    /// Counts a request to the token endpoint.
    pub(crate) fn token_request() {
        #[cfg(feature = "metrics")]
        metrics::counter!("tower_bearer_token_requests_total").increment(1);
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.listener.is_some() {
            "with a listener"
        } else {
            "without a listener"
        })
    }
}
