//! Counts hits. A handle of the layer counts its hits in a counter that no other thread writes to.
//!
//! Such a counter is borrowed from a pool, and returns to it with its count when the handle is dropped. Both cost the same however
//! many handles there are, and a hit needs no read-modify-write operation.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The hits of one cache.
#[derive(Default)]
pub(super) struct HitCounters {
    /// The hits that no handle counts.
    other: AtomicU64,
    pool: Arc<Mutex<CounterPool>>,
}

#[derive(Default)]
struct CounterPool {
    all: Vec<Arc<CacheLine>>,
    free: Vec<Arc<CacheLine>>,
}

/// The counter of one handle.
pub(crate) struct HitCounter {
    hits: Arc<CacheLine>,
    pool: Arc<Mutex<CounterPool>>,
}

/// Aligned so that each counter has its own cache line.
#[derive(Default)]
#[repr(align(128))]
struct CacheLine(AtomicU64);

impl HitCounters {
    pub(super) fn count(&self) {
        self.other.fetch_add(1, Relaxed);
    }

    pub(super) fn borrow(&self) -> HitCounter {
        let mut pool = lock(&self.pool);
        let hits = pool.free.pop().unwrap_or_else(|| {
            let hits = Arc::<CacheLine>::default();
            pool.all.push(Arc::clone(&hits));
            hits
        });
        drop(pool);
        let pool = Arc::clone(&self.pool);
        HitCounter { hits, pool }
    }

    /// Returns the number of all hits.
    pub(super) fn sum(&self) -> u64 {
        let pool = lock(&self.pool);
        let of_handles = pool.all.iter().map(|hits| hits.0.load(Relaxed));
        self.other.load(Relaxed) + of_handles.sum::<u64>()
    }
}

impl HitCounter {
    #[inline]
    pub(crate) fn count(&self) {
        // Only the handle that borrowed the counter writes to it.
        let hits = &self.hits.0;
        hits.store(hits.load(Relaxed) + 1, Relaxed);
    }
}

impl Drop for HitCounter {
    fn drop(&mut self) {
        lock(&self.pool).free.push(Arc::clone(&self.hits));
    }
}

fn lock(pool: &Mutex<CounterPool>) -> MutexGuard<'_, CounterPool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returned_counter_keeps_its_count_and_is_borrowed_again() {
        let counters = HitCounters::default();
        counters.count();
        for _ in 0..3 {
            let (first, second) = (counters.borrow(), counters.borrow());
            first.count();
            second.count();
        }
        assert_eq!(counters.sum(), 7);
        assert_eq!(lock(&counters.pool).all.len(), 2);
    }
}
