//! The shared cache: hit, single flight, refresh ahead of expiry, rejection, back-off, bound.
//!
//! | file | what it holds |
//! |---|---|
//! | `token_cache` | [`TokenCache`], what users call |
//! | `builder` | [`CacheBuilder`] and every default |
//! | `fetch` | the task that fetches, and the wait for it |
//! | `provider` | asking the provider: the attempts of one flight |
//! | `visit` | the way of a flight over a store (feature `store`) |
//! | `fleet` | what a cache keeps for its store |
//! | `shared` | what all clones of a cache share |
//! | `map` | the bounded map from spec to slot |
//! | `slot` | what is known of one spec's token: a state machine without I/O |
//! | `stats` | counters, and what an operator sees |
//! | `fetch_limit` | how many fetches run at once |
//! | `freshness` | fresh, stale or expired; pure |
//! | `required_claims` | what servers want of a token beyond its spec; pure |
//! | `asked` | what a store is asked, within bounds |
//! | `record` | a token as a store keeps it, and back; pure |
//! | `outage` | whether a store is worth asking |
//! | `refused` | what is not taken from a store any more |
//! | `backoff` | when to try again, and how often to believe a 401; pure |

#[cfg(feature = "store")]
mod asked;
mod backoff;
mod builder;
mod fetch;
mod fetch_limit;
#[cfg(feature = "store")]
mod fleet;
mod freshness;
#[cfg(test)]
pub(crate) mod held_locks;
mod map;
#[cfg(feature = "store")]
mod outage;
mod provider;
#[cfg(feature = "store")]
mod record;
#[cfg(feature = "store")]
mod refused;
mod required_claims;
mod shared;
mod slot;
mod stats;
mod token_cache;
#[cfg(feature = "store")]
mod visit;

pub(crate) use slot::{Rejection, Slot};

pub use builder::CacheBuilder;
pub(crate) use required_claims::Wish;
pub use stats::{Entry, EntryState, Stats};
pub use token_cache::TokenCache;
pub(crate) use token_cache::Waiting;
