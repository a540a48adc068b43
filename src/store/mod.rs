//! Provides a second level behind the cache, which outlives the process or is shared by several.
//!
//! A cache that has no token for a spec reads its store before it fetches one from the provider. A program that is started
//! again continues with the token of its last run, and in a fleet one process fetches a token and the others read it.
//!
//! | store | used for | |
//! |---|---|---|
//! | [`FileStore`] | a program that starts often, or several on one machine | feature `file` |
//! | [`RedisStore`] | a fleet | feature `redis` |
//! | [`MemoryStore`] | tests | |
//! | a custom [`TokenStore`] | anything else; test it with `testing::store_suite` | |
//!
//! # What a store can learn
//! A store sees only opaque bytes under opaque names. A name is an HMAC of the whole key of a token: the source's id and the
//! spec. The bytes are the token with its times, scopes and headers, encrypted with AES-256-GCM under a key of the [`KeyRing`],
//! with the same whole key as authenticated data. Therefore:
//!
//! - An attacker with read access learns neither a token nor which tokens exist.
//! - An attacker with write access can't forge a token or move one to another name. They can restore an old value, but only
//!   until its authenticated expiry, or delete one, which causes a fetch.
//!
//! Every store needs a key.
//!
//! # What a store must provide
//! A store provides values with a lifetime, compare-and-delete, and leases with fencing tokens; see [`TokenStore`]. It need not
//! be reliable: lost values are fetched again, and an error or a timeout counts as a miss.
//!
//! - **Compare-and-delete**: a late 401 for an old token must not delete the new one.
//! - **Leases** keep the processes of a fleet from fetching the same token at the same time. Where they fail, a token is fetched
//!   twice.
//! - **Fencing tokens** keep a process whose lease has expired from overwriting a newer value.
//!
//! ```
//! use std::time::Duration;
//! use tower_bearer::store::{MemoryStore, Name, TokenStore};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), tower_bearer::store::StoreError> {
//! let (store, name) = (MemoryStore::new(), Name::new("a")?);
//! let (short, long) = (Duration::from_secs(5), Duration::from_secs(3600));
//!
//! let late = store.lease(&name, short).await?.expect("the lease is free");
//! assert!(store.lease(&name, short).await?.is_none());
//! tokio::time::sleep(short).await;
//! let next = store.lease(&name, short).await?.expect("the lease has expired");
//!
//! assert!(store.put(&name, "new".into(), long, Some(next.fence())).await?);
//! assert!(!store.put(&name, "old".into(), long, Some(late.fence())).await?);
//! assert!(!store.delete_if(&name, &"old".into()).await?);
//! assert_eq!(store.get(&name).await?.as_deref(), Some(&b"new"[..]));
//! # Ok(()) }
//! ```
//!
//! # Files
//! | file | contents |
//! |---|---|
//! | `token_store` | [`TokenStore`], the trait that a store implements |
//! | `types`, `error` | [`Name`], [`Lease`] and [`Fence`], [`StoreError`] |
//! | `encryption/` | [`KeyRing`] and the encryption of records |
//! | `table` | values, leases and fences without I/O; pure |
//! | `memory`, `file/`, `redis/` | the stores |

// Links to stores whose features are off.
#![cfg_attr(
    not(all(feature = "redis", feature = "file")),
    allow(rustdoc::broken_intra_doc_links)
)]

mod encryption;
mod error;
#[cfg(feature = "file")]
mod file;
mod memory;
#[cfg(feature = "redis")]
mod redis;
mod table;
mod token_store;
mod types;

#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::RedisStore;
pub use encryption::KeyRing;
pub use error::{StoreError, StoreErrorKind};
#[cfg(feature = "file")]
#[cfg_attr(docsrs, doc(cfg(feature = "file")))]
pub use file::FileStore;
pub use memory::MemoryStore;
pub use token_store::TokenStore;
pub use types::{Fence, Lease, Name};

pub(crate) use encryption::{EncryptedStore, HeldLease, Loaded, Record, StoreKey, TokenDigest};
