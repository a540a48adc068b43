//! What the cache has of a store: it gives tokens and places, and the store sees sealed bytes and names.

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::{digest, error::Unspecified, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    encrypt::{self, Unreadable},
    key_ring::{Key, KeyRing},
    record::Record,
};
use crate::{
    error::TokenError,
    store::{Fence, Lease, Name, StoreError, StoreErrorKind, TokenStore, token_store::DynStore},
    util::length_prefixed,
};

/// A store and the keys to what is in it. A clone costs two reference counts.
#[derive(Clone)]
pub(crate) struct EncryptedStore {
    store: Arc<dyn DynStore>,
    ring: KeyRing,
}

/// Where a token belongs: the whole key that it is compared by. The same in every process of a fleet.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StoreKey(Arc<[u8]>);

/// What was found.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// This token. Whether it is over is for the cache to judge.
    Found(Box<Record>),
    /// None.
    Missing,
    /// One that can't be opened. It counts as none, and is worth a word to the operator.
    Unreadable(Unreadable),
}

/// The right to fetch for a place. Give it to [`EncryptedStore::save`], and back by [`EncryptedStore::release`].
#[derive(Debug)]
pub(crate) struct HeldLease {
    name: Name,
    lease: Lease,
}

/// Tells one token from another without being it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenDigest([u8; 32]);

impl StoreKey {
    /// Makes the key from everything that a token depends on: its owner, its source and its spec.
    pub(crate) fn new(parts: &[&[u8]]) -> Self {
        let mut key = Vec::new();
        for part in parts {
            length_prefixed::put(&mut key, part);
        }
        Self(key.into())
    }

    pub(super) fn name(&self, key: &Key) -> Result<Name, StoreError> {
        let tag = hmac::sign(&key.for_names().map_err(no_crypto)?, &self.0);
        Name::new(&URL_SAFE_NO_PAD.encode(tag))
    }
}

impl TokenDigest {
    /// The digest of an access token.
    pub(crate) fn of(text: &str) -> Self {
        let mut bytes = [0; 32];
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        for (byte, from) in bytes.iter_mut().zip(digest.as_ref()) {
            *byte = *from;
        }
        Self(bytes)
    }
}

impl EncryptedStore {
    pub(crate) fn new(store: impl TokenStore, ring: KeyRing) -> Self {
        Self {
            store: Arc::new(store),
            ring,
        }
    }

    /// The token of this place.
    ///
    /// It is looked for under the names that each key of the ring gives it, so that a change of keys costs no miss.
    pub(crate) async fn load(&self, place: &StoreKey) -> Result<Loaded, StoreError> {
        let keys = self.keys()?;
        let mut outcome = Loaded::Missing;
        for key in &keys {
            let Some(value) = self.store.get(&place.name(key)?).await? else {
                continue;
            };
            match encrypt::decrypt(&value, &place.0, &keys) {
                Ok(record) => return Ok(Loaded::Found(Box::new(record))),
                Err(why) => outcome = Loaded::Unreadable(why),
            }
        }
        Ok(outcome)
    }

    /// Puts a token for so long. Under a lease, only if nobody got a later one; says whether it did.
    pub(crate) async fn save(
        &self,
        place: &StoreKey,
        record: &Record,
        lifetime: Duration,
        held: Option<&HeldLease>,
    ) -> Result<bool, StoreError> {
        let key = self.ring.first().map_err(no_key)?;
        let value = encrypt::encrypt(record, &place.0, &key).map_err(no_crypto)?;
        let (name, fence): (_, Option<Fence>) = match held {
            // The name that the lease is for, though the keys may have changed meanwhile.
            Some(held) => (held.name.clone(), Some(held.lease.fence())),
            None => (place.name(&key)?, None),
        };
        self.store.put(&name, value, lifetime, fence).await
    }

    /// Takes a token out, if it is still the one of this digest; says whether it did.
    pub(crate) async fn forget(
        &self,
        place: &StoreKey,
        unwanted: &TokenDigest,
    ) -> Result<bool, StoreError> {
        let keys = self.keys()?;
        let mut forgotten = false;
        for key in &keys {
            let name = place.name(key)?;
            let Some(value) = self.store.get(&name).await? else {
                continue;
            };
            let is_it = encrypt::decrypt(&value, &place.0, &keys)
                .is_ok_and(|record| TokenDigest::of(&record.text) == *unwanted);
            if is_it {
                forgotten |= self.store.delete_if(&name, &value).await?;
            }
        }
        Ok(forgotten)
    }

    /// The right to fetch for this place, for so long, if nobody has it.
    pub(crate) async fn lease(
        &self,
        place: &StoreKey,
        lifetime: Duration,
    ) -> Result<Option<HeldLease>, StoreError> {
        let name = place.name(&self.ring.first().map_err(no_key)?)?;
        let lease = self.store.lease(&name, lifetime).await?;
        Ok(lease.map(|lease| HeldLease { name, lease }))
    }

    /// Gives the right back.
    pub(crate) async fn release(&self, held: HeldLease) -> Result<(), StoreError> {
        self.store.release(&held.name, held.lease).await
    }

    fn keys(&self) -> Result<Vec<Key>, StoreError> {
        self.ring.keys().map_err(no_key)
    }
}

impl fmt::Debug for EncryptedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptedStore")
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(..)")
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

fn no_key(error: TokenError) -> StoreError {
    StoreError::new(
        StoreErrorKind::Configuration,
        "the key of the store can't be used",
    )
    .with_source(error)
}

fn no_crypto(error: Unspecified) -> StoreError {
    StoreError::new(StoreErrorKind::Broken, "the cryptography library failed").with_source(error)
}
