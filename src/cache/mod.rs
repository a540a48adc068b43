//! The shared token cache: lookup, single-flight fetch, refresh ahead of expiry, rejection, back-off, bounds.
//!
//! A caller asks [`lookup`](lookup) for the token of a [`slot`](slot), the cache's entry for one spec. It gets the token at
//! once, or a waiter for the one [`fetch`](fetch) in progress.

mod backoff;
mod builder;
mod fetch;
mod fetch_limit;
mod freshness;
#[cfg(test)]
pub(crate) mod held_locks;
mod map;
mod provider;
mod required_claims;
#[cfg(feature = "store")]
mod second_level;
mod shared;
mod slot;
mod stats;
mod token_cache;

pub(crate) use required_claims::Wish;
pub(crate) use slot::{Rejection, Slot};
pub(crate) use token_cache::Waiting;

pub use builder::CacheBuilder;
pub use stats::{Entry, EntryState, Stats};
pub use token_cache::TokenCache;
