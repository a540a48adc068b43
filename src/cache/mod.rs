//! The shared cache behind [`TokenCache`]: its builder, its statistics and its entries.
//!
//! A fresh token is returned at once. A stale one is returned and refreshed in the background. For a missing, expired or
//! rejected one, all callers wait for the same fetch. [The design](crate::docs::design) has the times and the back-off.

// A caller asks `lookup` for the token of a `slot`, the cache's entry for one spec. It gets the token, or a waiter for the one
// `fetch` in progress.
mod backoff;
mod builder;
mod challenge;
mod fetch;
mod fetch_limit;
mod freshness;
mod hit_counters;
#[cfg(test)]
mod lock_tests;
mod lookup;
mod map;
mod provider;
mod rejection_budget;
#[cfg(feature = "store")]
mod second_level;
mod shared;
mod slot;
mod stats;
mod token_cache;

pub(crate) use hit_counters::HitCounter;
pub(crate) use lookup::{Lookup, Waiter};
pub(crate) use slot::{Need, Outcome, Rejection, Slot};

pub use builder::CacheBuilder;
pub use stats::{Entry, EntryState, Stats};
pub use token_cache::TokenCache;
