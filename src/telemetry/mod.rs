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

mod emitter;
mod events;
mod log;
#[cfg(feature = "metrics")]
mod metrics;

#[cfg(feature = "metrics")]
pub(crate) use self::metrics::{MetricSums, PublishedMetrics};
pub(crate) use emitter::Telemetry;
pub use events::{StoreWork, TokenEvent, TokenEvents};
