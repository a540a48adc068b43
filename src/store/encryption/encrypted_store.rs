//! Combines a store with its keys: the cache passes records and keys, the store sees encrypted bytes and opaque names.

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::{
    encrypt::{self, Unreadable},
    key_ring::{Key, KeyRing},
    record::Record,
};
use crate::{
    error::TokenError,
    store::{Lease, Name, StoreError, TokenStore, token_store::DynStore},
    util::length_prefixed,
};

/// A store with its keys.
#[derive(Clone)]
pub(crate) struct EncryptedStore {
    store: Arc<dyn DynStore>,
    ring: KeyRing,
}

/// The whole key of a token. It is the same in every process of a fleet.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoreKey(Arc<[u8]>);

/// The outcome of a read.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// A record, which may have expired.
    Found(Box<Record>),
    Missing,
    /// A value that can't be decrypted.
    Unreadable(Unreadable),
}

/// A lease with the name that it was granted for.
#[derive(Debug)]
pub(crate) struct HeldLease {
    name: Name,
    lease: Lease,
}

/// The SHA-256 digest of an access token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenDigest([u8; 32]);

impl EncryptedStore {
    pub(crate) fn new(store: impl TokenStore, ring: KeyRing) -> Self {
        Self {
            store: Arc::new(store),
            ring,
        }
    }

    /// Loads the record of this key.
    ///
    /// The names derived from all keys of the ring are tried, so a key rotation causes no miss.
    pub(crate) async fn load(&self, key: &StoreKey) -> Result<Loaded, StoreError> {
        let ring = self.ring.keys().map_err(key_error)?;
        let mut outcome = Loaded::Missing;
        for ring_key in &ring {
            let Some(value) = self.store.get(&key.name(ring_key)?).await? else {
                continue;
            };
            match encrypt::decrypt(&value, &key.0, &ring) {
                Ok(record) => return Ok(Loaded::Found(Box::new(record))),
                Err(why) => outcome = Loaded::Unreadable(why),
            }
        }
        Ok(outcome)
    }

    /// Saves a record. Returns `false` if another process has been granted a later lease than this one.
    pub(crate) async fn save(
        &self,
        key: &StoreKey,
        record: &Record,
        lifetime: Duration,
        lease: Option<&HeldLease>,
    ) -> Result<bool, StoreError> {
        let ring_key = self.ring.first().map_err(key_error)?;
        let value = encrypt::encrypt(record, &key.0, &ring_key).map_err(StoreError::crypto)?;
        let (name, fence) = match lease {
            // The name of the lease, because the first key may have changed since it was granted.
            Some(held) => (held.name.clone(), Some(held.lease.fence())),
            None => (key.name(&ring_key)?, None),
        };
        self.store.put(&name, value, lifetime, fence).await
    }

    /// Deletes the token with this digest. Returns `false` if the store contains none or another.
    pub(crate) async fn forget(
        &self,
        key: &StoreKey,
        token: &TokenDigest,
    ) -> Result<bool, StoreError> {
        let ring = self.ring.keys().map_err(key_error)?;
        let mut is_deleted = false;
        for ring_key in &ring {
            let name = key.name(ring_key)?;
            let Some(value) = self.store.get(&name).await? else {
                continue;
            };
            let matches = encrypt::decrypt(&value, &key.0, &ring)
                .is_ok_and(|record| TokenDigest::of(&record.text) == *token);
            if matches {
                is_deleted |= self.store.delete_if(&name, &value).await?;
            }
        }
        Ok(is_deleted)
    }

    /// Acquires the exclusive right to fetch the token of this key, unless another process holds it.
    pub(crate) async fn lease(
        &self,
        key: &StoreKey,
        lifetime: Duration,
    ) -> Result<Option<HeldLease>, StoreError> {
        let name = key.name(&self.ring.first().map_err(key_error)?)?;
        let lease = self.store.lease(&name, lifetime).await?;
        Ok(lease.map(|lease| HeldLease { name, lease }))
    }

    pub(crate) async fn release(&self, held: HeldLease) -> Result<(), StoreError> {
        self.store.release(&held.name, held.lease).await
    }
}

impl StoreKey {
    /// Makes the key from everything that a token depends on: the namespace, the source and the spec.
    pub(crate) fn new(parts: &[&[u8]]) -> Self {
        let mut key = Vec::new();
        for part in parts {
            length_prefixed::put(&mut key, part);
        }
        Self(key.into())
    }

    pub(super) fn name(&self, key: &Key) -> Result<Name, StoreError> {
        let tag = hmac::sign(&key.for_names().map_err(StoreError::crypto)?, &self.0);
        Name::new(&URL_SAFE_NO_PAD.encode(tag))
    }
}

impl TokenDigest {
    pub(crate) fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }
}

impl fmt::Debug for EncryptedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptedStore")
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}

fn key_error(error: TokenError) -> StoreError {
    StoreError::configuration("a key of the store's key ring can't be read").with_source(error)
}
