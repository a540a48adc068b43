//! This module records the metrics of each [`TokenEvent`], and those that the cache collects.

use std::sync::{Mutex, PoisonError};

use metrics::{counter, gauge, histogram};

use super::TokenEvent;

/// Records the metrics of an event.
pub(super) fn measure(event: &TokenEvent<'_>) {
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
        TokenEvent::RecoveryFinished { recovery, .. } => {
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
        TokenEvent::StoreRecovered { .. } => {}
        TokenEvent::StoreUnreadable { .. } => {
            counter!("tower_bearer_store_loads_total", "outcome" => "unreadable").increment(1);
        }
    }
}

/// Metrics that the cache collects. Each publication records the difference to the previous one.
#[derive(Debug, Default)]
pub(crate) struct PublishedMetrics {
    last: Mutex<MetricSums>,
}

/// Values that the cache collects: three sums, and two levels.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MetricSums {
    pub(crate) fresh_hits: u64,
    pub(crate) stale_hits: u64,
    pub(crate) evictions: u64,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl PublishedMetrics {
    /// Records what has changed, so that the values of several caches add up.
    pub(crate) fn publish(&self, sums: MetricSums) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let increase = |now: u64, last: u64| now.saturating_sub(last);
        counter!("tower_bearer_hits_total", "state" => "fresh")
            .increment(increase(sums.fresh_hits, last.fresh_hits));
        counter!("tower_bearer_hits_total", "state" => "stale")
            .increment(increase(sums.stale_hits, last.stale_hits));
        counter!("tower_bearer_evictions_total")
            .increment(increase(sums.evictions, last.evictions));
        gauge!("tower_bearer_entries").increment(sums.entries as f64 - last.entries as f64);
        gauge!("tower_bearer_bytes").increment(sums.bytes as f64 - last.bytes as f64);
        *last = sums;
    }
}

/// Removes the levels of a dropped cache from the gauges.
impl Drop for PublishedMetrics {
    fn drop(&mut self) {
        let last = *self.last.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.publish(MetricSums {
            entries: 0,
            bytes: 0,
            ..last
        });
    }
}
