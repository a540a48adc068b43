//! This module records the metrics that the cache collects.

use std::sync::{Mutex, PoisonError};

use metrics::{counter, gauge};

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
        let hits = |state| counter!("tower_bearer_hits_total", "state" => state);
        hits("fresh").increment(sums.fresh_hits.saturating_sub(last.fresh_hits));
        hits("stale").increment(sums.stale_hits.saturating_sub(last.stale_hits));
        counter!("tower_bearer_evictions_total")
            .increment(sums.evictions.saturating_sub(last.evictions));
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
