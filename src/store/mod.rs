//! A second level behind the cache, which outlives the process or is shared by a fleet.
//!
//! A cache that has no token for a spec asks its store before it asks the provider. So a program that starts goes on with the token of
//! its last run, and of the many processes of a fleet one fetches and the others read.
//!
//! | store | for | |
//! |---|---|---|
//! | [`FileStore`] | a program that starts often, or several at once on a machine | feature `file` |
//! | [`RedisStore`] | a fleet | feature `redis` |
//! | [`MemoryStore`] | tests | |
//! | your own [`TokenStore`] | whatever else there is; `testing::store_suite` tries it | |
//!
//! # What a store may know
//! Nothing. It keeps opaque bytes under opaque names. A name is an HMAC of the whole key of a token: the source's identity and the spec. The bytes
//! are the token with its times, scopes and headers, sealed by AES-256-GCM with a key of the [`KeyRing`] and, as
//! authenticated data, that same whole key. So whoever reads the store learns no token and not what there are tokens for;
//! whoever writes to it can't make one up, nor put one in another's place. He can bring back an older one, which its expiry, sealed with it, ends, and he can
//! delete: then it is fetched. There is no store without a key.
//!
//! # What a store must do
//! Little, and that exactly: [`TokenStore`] has a value that ends, a deletion by comparison, and a lease with a fence. It need not be reliable. What it
//! has lost is fetched anew; what it can't answer in time is a miss.
//!
//! - **Deletion by comparison**: a late 401 for an old token must not cost the fleet its new one.
//! - **The lease** keeps a fleet from asking the provider all at once. It is no more than a courtesy: where it fails, one fetch is made twice.
//! - **The fence** keeps what must not go wrong right: who slept over the end of his lease can't overwrite what came after.
//!
//! ```
//! use std::time::Duration;
//! use tower_bearer::store::{MemoryStore, Name, TokenStore};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), tower_bearer::store::StoreError> {
//! let (store, name) = (MemoryStore::new(), Name::new("a")?);
//! let (short, long) = (Duration::from_secs(5), Duration::from_secs(3600));
//!
//! let late = store.lease(&name, short).await?.expect("nobody has it");
//! assert!(store.lease(&name, short).await?.is_none());
//! tokio::time::sleep(short).await;
//! let next = store.lease(&name, short).await?.expect("it was over");
//!
//! assert!(store.put(&name, "new".into(), long, Some(next.fence())).await?);
//! assert!(!store.put(&name, "old".into(), long, Some(late.fence())).await?);
//! assert!(!store.delete_if(&name, &"old".into()).await?);
//! assert_eq!(store.get(&name).await?.as_deref(), Some(&b"new"[..]));
//! # Ok(()) }
//! ```
//!
//! # The files
//! | file | what it holds |
//! |---|---|
//! | `token_store` | [`TokenStore`], what a store does |
//! | `types`, `error` | [`Name`], [`Lease`] and [`Fence`], [`StoreError`] |
//! | `encryption/` | [`KeyRing`] and the encryption of records |
//! | `table` | what a store does, without I/O; pure |
//! | `memory`, `file`, `redis` | the stores |

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
