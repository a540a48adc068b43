//! A store in this process's memory: for tests, and the shortest that there is to read.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Fence, Lease, Name, StoreError, TokenStore, table::Shelf, types::new_holder};

/// A store in memory, which all its clones share. For tests: what a process forgets anyway, its cache has.
///
/// It goes by Tokio's clock, so that a test can pause it.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::store::{MemoryStore, Name, TokenStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::store::StoreError> {
/// let store = MemoryStore::new();
/// let name = Name::new("a")?;
/// assert!(store.put(&name, "sealed".into(), Duration::from_secs(60), None).await?);
/// assert_eq!(store.clone().get(&name).await?.as_deref(), Some(&b"sealed"[..]));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

struct Inner {
    shelf: Mutex<Shelf>,
    start: Instant,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            shelf: Mutex::default(),
            start: Instant::now(),
        }))
    }

    /// The shelf, without what is over, and what time it is.
    fn shelf(&self) -> (MutexGuard<'_, Shelf>, u64) {
        let now = u64::try_from(self.0.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut shelf = self.0.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.prune(now);
        (shelf, now)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl TokenStore for MemoryStore {
    async fn get(&self, name: &Name) -> Result<Option<Bytes>, StoreError> {
        let (shelf, now) = self.shelf();
        Ok(shelf.get(name, now))
    }

    async fn put(
        &self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> Result<bool, StoreError> {
        let (mut shelf, now) = self.shelf();
        Ok(shelf.put(name, value, lifetime, fence, now))
    }

    async fn delete_if(&self, name: &Name, value: &Bytes) -> Result<bool, StoreError> {
        let (mut shelf, now) = self.shelf();
        Ok(shelf.delete_if(name, value, now))
    }

    async fn lease(&self, name: &Name, lifetime: Duration) -> Result<Option<Lease>, StoreError> {
        let holder = new_holder()?;
        let (mut shelf, now) = self.shelf();
        Ok(shelf.lease(name, lifetime, &holder, now))
    }

    async fn release(&self, name: &Name, lease: Lease) -> Result<(), StoreError> {
        let (mut shelf, now) = self.shelf();
        let _was_ours = shelf.release(name, &lease, now);
        Ok(())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}
