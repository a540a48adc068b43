//! Implements a store in the memory of the process, for tests.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Fence, Lease, Name, StoreError, TokenStore,
    table::{Table, micros},
    types::random_holder,
};

/// A store in memory, shared by its clones. Intended for tests: within one process, the cache itself is enough.
///
/// It uses Tokio's clock, so a test can pause the time.
///
/// ```
/// use std::time::Duration;
/// use tower_bearer::store::{MemoryStore, Name, TokenStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_bearer::store::StoreError> {
/// let store = MemoryStore::new();
/// let name = Name::new("a")?;
/// assert!(store.put(&name, "encrypted".into(), Duration::from_secs(60), None).await?);
/// assert_eq!(store.clone().get(&name).await?.as_deref(), Some(&b"encrypted"[..]));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    table: Arc<Mutex<Table>>,
    start: Instant,
}

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self {
            table: Arc::default(),
            start: Instant::now(),
        }
    }

    /// Runs the closure on the table without its expired entries, and the current time.
    fn run<T>(&self, run: impl FnOnce(&mut Table, u64) -> T) -> Result<T, StoreError> {
        let now = micros(self.start.elapsed());
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.prune(now);
        Ok(run(&mut table, now))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl TokenStore for MemoryStore {
    async fn get(&self, name: &Name) -> Result<Option<Bytes>, StoreError> {
        self.run(|table, now| table.get(name, now))
    }

    async fn put(
        &self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> Result<bool, StoreError> {
        self.run(|table, now| table.put(name, value, lifetime, fence, now))
    }

    async fn delete_if(&self, name: &Name, value: &Bytes) -> Result<bool, StoreError> {
        self.run(|table, now| table.delete_if(name, value, now))
    }

    async fn lease(&self, name: &Name, lifetime: Duration) -> Result<Option<Lease>, StoreError> {
        let holder = random_holder()?;
        self.run(|table, now| table.lease(name, lifetime, &holder, now))
    }

    async fn release(&self, name: &Name, lease: Lease) -> Result<(), StoreError> {
        self.run(|table, now| table.release(name, &lease, now))
            .map(drop)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}
