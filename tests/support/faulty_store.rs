//! Provides a store in memory with faults that a test can switch on.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Notify, time::sleep};
use tower_bearer::store::{
    Fence, Lease, MemoryStore, Name, StoreError, StoreErrorKind, TokenStore,
};

/// A store in memory with switchable faults.
#[derive(Clone, Default)]
pub(crate) struct FaultyStore(Arc<Faults>);

#[derive(Default)]
struct Faults {
    store: MemoryStore,
    /// Values as written, which `overwrite` changes.
    values: Mutex<HashMap<Name, Bytes>>,
    fail_reads: Mutex<Option<StoreErrorKind>>,
    fail_writes: Mutex<Option<StoreErrorKind>>,
    hang_reads: AtomicBool,
    hang_writes: AtomicBool,
    refuse_leases: AtomicBool,
    block_leases: AtomicBool,
    unblocked: Notify,
    panic: AtomicBool,
    keep_forever: AtomicBool,
    junk: AtomicBool,
    delay: Mutex<Duration>,
    reads: AtomicU64,
    writes: AtomicU64,
    deleted: AtomicU64,
}

impl FaultyStore {
    pub(crate) fn fail(&self, reads: Option<StoreErrorKind>, writes: Option<StoreErrorKind>) {
        *self.0.fail_reads.lock().unwrap() = reads;
        *self.0.fail_writes.lock().unwrap() = writes;
    }

    pub(crate) fn fail_all(&self, kind: Option<StoreErrorKind>) {
        self.fail(kind, kind);
    }

    pub(crate) fn hang(&self, reads: bool, writes: bool) {
        self.0.hang_reads.store(reads, SeqCst);
        self.0.hang_writes.store(writes, SeqCst);
    }

    pub(crate) fn refuse_leases(&self) {
        self.0.refuse_leases.store(true, SeqCst);
    }

    /// Makes requests for a lease wait until this is called with `false`.
    pub(crate) fn block_leases(&self, block: bool) {
        self.0.block_leases.store(block, SeqCst);
        self.0.unblocked.notify_waiters();
    }

    pub(crate) fn panic(&self) {
        self.0.panic.store(true, SeqCst);
    }

    pub(crate) fn keep_forever(&self) {
        self.0.keep_forever.store(true, SeqCst);
    }

    /// Makes each operation take this long.
    pub(crate) fn delay(&self, time: Duration) {
        *self.0.delay.lock().unwrap() = time;
    }

    pub(crate) fn reads(&self) -> u64 {
        self.0.reads.load(SeqCst)
    }

    pub(crate) fn calls(&self) -> u64 {
        self.reads() + self.0.writes.load(SeqCst)
    }

    pub(crate) fn deleted(&self) -> u64 {
        self.0.deleted.load(SeqCst)
    }

    /// Makes each read return the value of another program.
    pub(crate) fn return_junk(&self) {
        self.0.junk.store(true, SeqCst);
    }

    /// Replaces all values.
    pub(crate) fn overwrite(&self, junk: &'static [u8]) {
        for value in self.0.values.lock().unwrap().values_mut() {
            *value = Bytes::from_static(junk);
        }
    }

    async fn read(&self) -> Result<(), StoreError> {
        self.0.reads.fetch_add(1, SeqCst);
        let kind = *self.0.fail_reads.lock().unwrap();
        self.apply(kind, self.0.hang_reads.load(SeqCst)).await
    }

    async fn write(&self) -> Result<(), StoreError> {
        self.0.writes.fetch_add(1, SeqCst);
        let kind = *self.0.fail_writes.lock().unwrap();
        self.apply(kind, self.0.hang_writes.load(SeqCst)).await
    }

    async fn apply(&self, kind: Option<StoreErrorKind>, hang: bool) -> Result<(), StoreError> {
        assert!(!self.0.panic.load(SeqCst), "scripted panic");
        if hang {
            std::future::pending::<()>().await;
        }
        let delay = *self.0.delay.lock().unwrap();
        if !delay.is_zero() {
            sleep(delay).await;
        }
        kind.map_or(Ok(()), |kind| Err(StoreError::new(kind, "scripted")))
    }
}

impl TokenStore for FaultyStore {
    async fn get(&self, name: &Name) -> Result<Option<Bytes>, StoreError> {
        self.read().await?;
        if self.0.junk.load(SeqCst) {
            return Ok(Some("another program's".into()));
        }
        let is_stored = self.0.store.get(name).await?.is_some();
        if !is_stored && !self.0.keep_forever.load(SeqCst) {
            return Ok(None);
        }
        Ok(self.0.values.lock().unwrap().get(name).cloned())
    }

    async fn put(
        &self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
    ) -> Result<bool, StoreError> {
        self.write().await?;
        let store = &self.0.store;
        let put = store.put(name, value.clone(), lifetime, fence).await?;
        if put {
            self.0.values.lock().unwrap().insert(name.clone(), value);
        }
        Ok(put)
    }

    async fn delete_if(&self, name: &Name, value: &Bytes) -> Result<bool, StoreError> {
        self.write().await?;
        let deleted = self.0.store.delete_if(name, value).await?;
        self.0.deleted.fetch_add(deleted.into(), SeqCst);
        Ok(deleted)
    }

    async fn lease(&self, name: &Name, lifetime: Duration) -> Result<Option<Lease>, StoreError> {
        self.write().await?;
        if self.0.block_leases.load(SeqCst) {
            self.0.unblocked.notified().await;
        }
        if self.0.refuse_leases.load(SeqCst) {
            return Ok(None);
        }
        self.0.store.lease(name, lifetime).await
    }

    async fn release(&self, name: &Name, lease: Lease) -> Result<(), StoreError> {
        self.write().await?;
        self.0.store.release(name, lease).await
    }
}
