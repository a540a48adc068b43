//! A second level behind the cache, which outlives the process or is shared by a fleet.
//!
//! A [`TokenStore`] keeps opaque bytes under opaque names. What it keeps was sealed before it got there, with a key of the
//! [`KeyRing`]: whoever reads the store learns neither a token nor what there are tokens for, and whoever writes to it
//! can neither make up a token nor put one in another's place.
//!
//! | file | what it holds |
//! |---|---|
//! | `token_store` | [`TokenStore`], what a store does |
//! | `name`, `lease`, `error` | [`Name`], [`Lease`] and [`Fence`], [`StoreError`] |
//! | `key_ring` | [`KeyRing`], the keys |
//! | `record` | a token as it is written |
//! | `seal` | a record, sealed and opened |
//! | `shelf` | what a store does, without I/O |
//! | `memory` | [`MemoryStore`] |
//! | `holder` | what a lease's holder is known by |
//! | `vault` | a store and its keys: what the cache uses |

#[cfg(feature = "redis")]
mod circuit;
mod error;
#[cfg(feature = "file")]
mod file;
mod holder;
#[allow(dead_code, reason = "the cache's side of it")]
mod key_ring;
mod lease;
mod memory;
mod name;
#[allow(dead_code, reason = "the cache's side of it")]
mod record;
#[cfg(feature = "redis")]
mod redis;
#[allow(dead_code, reason = "the cache's side of it")]
mod seal;
mod shelf;
#[allow(dead_code, reason = "the cache's side of it")]
mod token_store;
#[allow(dead_code, reason = "the cache's side of it")]
mod vault;

#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::RedisStore;
pub use error::{StoreError, StoreErrorKind};
#[cfg(feature = "file")]
#[cfg_attr(docsrs, doc(cfg(feature = "file")))]
pub use file::FileStore;
pub use key_ring::KeyRing;
pub use lease::{Fence, Lease};
pub use memory::MemoryStore;
pub use name::Name;
pub use token_store::TokenStore;

#[allow(unused_imports, reason = "the cache's side of it")]
pub(crate) use self::{record::Record, seal::Unreadable};
#[allow(unused_imports, reason = "the cache's side of it")]
pub(crate) use vault::{Held, Loaded, Place, TokenDigest, Vault};
