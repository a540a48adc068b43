//! Encrypts records before they reach a store, and derives the names that they are stored under.
//!
//! | file | contents |
//! |---|---|
//! | `key_ring` | [`KeyRing`]: the keys, and the keys derived from them |
//! | `record` | a stored token and its encoding |
//! | `encrypt` | the encryption of one record |
//! | `encrypted_store` | [`EncryptedStore`]: a store with its keys, as the cache uses it |

mod encrypt;
mod encrypted_store;
#[cfg(test)]
mod encrypted_store_tests;
mod key_ring;
mod record;

pub use key_ring::KeyRing;

pub(crate) use encrypted_store::{EncryptedStore, HeldLease, Loaded, StoreKey, TokenDigest};
pub(crate) use record::Record;
