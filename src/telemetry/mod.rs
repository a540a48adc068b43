//! This module reports each event of a cache and its layers to the log, the metrics and a custom listener.
//!
//! Log events have the target `tower_bearer`. Problems that an operator should investigate are logged at `WARN`, everything else at
//! `DEBUG` or `INFO`. A fetch is a span, which contains the log events of its source.
//!
//! | event | level | fields |
//! |---|---|---|
//! | span `fetch` | DEBUG | `spec`, `reason` |
//! | token request failed, retrying | DEBUG | `spec`, `kind`, `attempt`, `pause` |
//! | token fetched | DEBUG | `spec`, `generation`, `reason`, `lifetime`, `elapsed` |
//! | fetching a token failed | WARN | `spec`, `reason`, `kind`, `error`, `elapsed` |
//! | request waited for a token | DEBUG | `spec`, `elapsed` |
//! | token rejected | DEBUG | `spec`, `generation` |
//! | too many rejections | WARN at first, then DEBUG | `spec`, `generation` |
//! | response rejected the token | DEBUG | `spec`, `generation`, `recovery` |
//! | token loaded from the store | DEBUG | `spec`, `generation`, `reason`, `lifetime`, `elapsed` |
//! | store failed | WARN at first, then DEBUG | `work`, `kind`, `error` |
//! | store recovered | INFO | `work`, `after` |
//! | stored token can't be decrypted | WARN at first, then DEBUG | `spec`, `why` |
//!
//! With the feature `metrics`, these metrics are recorded with the `metrics` crate:
//!
//! | metric | type | labels |
//! |---|---|---|
//! | `tower_bearer_hits_total` | counter | `state`: `fresh`, `stale` |
//! | `tower_bearer_misses_total` | counter | |
//! | `tower_bearer_wait_seconds` | histogram | |
//! | `tower_bearer_fetches_total` | counter | `outcome`: `ok`, or the kind of the error |
//! | `tower_bearer_fetch_seconds` | histogram | |
//! | `tower_bearer_token_requests_total` | counter | |
//! | `tower_bearer_rejections_total` | counter | |
//! | `tower_bearer_storms_total` | counter | |
//! | `tower_bearer_replays_total` | counter | `outcome`: the name of a [`Recovery`](crate::layer::Recovery) |
//! | `tower_bearer_evictions_total` | counter | |
//! | `tower_bearer_store_loads_total` | counter | `outcome`: `hit`, `miss`, `unreadable` |
//! | `tower_bearer_store_load_seconds` | histogram | |
//! | `tower_bearer_store_errors_total` | counter | `work`: `reading`, `writing`; `kind`: the kind of the error |
//! | `tower_bearer_store_outages_total` | counter | `work` |
//! | `tower_bearer_entries`, `tower_bearer_bytes` | gauge | |
//!
//! A fetch whose task ended without a result (a panic, or a runtime that was shut down) is only counted in
//! [`TokenCache::stats`](crate::TokenCache::stats).
//!
//! Hits, evictions and the gauges are collected in the cache, so that a hit stays cheap. They are recorded after each fetch, and when
//! [`TokenCache::publish_metrics`](crate::TokenCache::publish_metrics) is called, for example before a scrape.

mod emitter;
mod events;
#[cfg(feature = "metrics")]
mod metrics;

#[cfg(feature = "metrics")]
pub(crate) use self::metrics::{MetricSums, PublishedMetrics};
pub(crate) use emitter::Telemetry;
pub use events::{StoreWork, TokenEvent, TokenEvents};
