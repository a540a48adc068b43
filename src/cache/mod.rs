//! The shared cache: hit, single flight, refresh ahead of expiry, rejection, back-off, bound.
//!
//! | file | what it holds |
//! |---|---|
//! | `token_cache` | [`TokenCache`], what users call |
//! | `options` | [`CacheBuilder`] and every default |
//! | `flight` | the task that fetches, and the wait for it |
//! | `provider` | asking the provider: the attempts of one flight |
//! | `second_level` | the lookup in a store before a fetch (feature `store`) |
//! | `core` | what all clones of a cache share |
//! | `map` | the bounded map from spec to slot |
//! | `bypass` | the way to a token past the map, for specs that are kept |
//! | `slot` | what is known of one spec's token: a state machine without I/O |
//! | `owed` | which slots wait for an acceptance |
//! | `stats` | counters, and what an operator sees |
//! | `places` | how many fetches run at once |
//! | `freshness` | fresh, stale or expired; pure |
//! | `wishes` | what servers want of a token beyond its spec; pure |
//! | `backoff` | when to try again, and how often to believe a 401; pure |

mod backoff;
mod bypass;
mod core;
mod flight;
mod freshness;
#[cfg(test)]
pub(crate) mod locks;
mod map;
mod options;
mod owed;
mod places;
mod provider;
#[cfg(feature = "store")]
mod second_level;
mod slot;
mod stats;
mod token_cache;
mod wishes;

pub(crate) use bypass::Bypass;
pub(crate) use owed::Owed;
pub(crate) use slot::{Rejection, Slot};
pub(crate) use stats::LocalHits;

pub use options::CacheBuilder;
pub use stats::{Entry, EntryState, Stats};
pub use token_cache::TokenCache;
pub(crate) use token_cache::Waiting;
pub(crate) use wishes::Wish;
