//! Looks tokens up in a store before they are fetched from the provider.
//!
//! | file | contents |
//! |---|---|
//! | `lookup` | the steps of one lookup: read, acquire the lease, wait, fetch, save |
//! | `shared_store` | the store and its state, shared by all lookups of a cache |
//! | `breaker` | the circuit breaker that guards every call to the store |
//! | `rejected` | the tokens that are no longer accepted from the store |
//! | `record` | conversion between tokens and stored records; pure |

mod breaker;
mod lookup;
mod record;
mod rejected;
mod shared_store;

pub(super) use lookup::load_or_fetch;
pub(super) use shared_store::SharedStore;
