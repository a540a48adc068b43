//! The bounded map from spec to slot.
//!
//! An entry's weight is fixed when it goes in; when its token changes, it goes in anew. A weight is at least its share of
//! the entries, so one bound on the sum of weights holds both bounds: entries and bytes. An entry that anybody holds (a
//! route, a flight, a waiter) is not evicted: there are never two slots for one spec.

use std::{
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::{Lifecycle, OptionsBuilder, Weighter, sync::Cache};

use super::slot::Slot;
use crate::{clock::Moment, token::TokenSpec};

/// Between two sweeps for what has expired, at least this share of the entries comes in.
const SWEEP_SHARE: u64 = 8;
/// What an entry weighs whose token is short, about.
const LIGHT: u64 = 512;
/// What quick_cache, the allocator and reference counts add to an entry.
const OVERHEAD: usize = 128;

pub(super) struct SlotMap {
    cache: Cache<TokenSpec, Shelf, ByWeight, BuildHasherDefault<Precomputed>, Pinning>,
    tally: Arc<Tally>,
    share: u64,
}

/// What the map counts as entries come and go.
#[derive(Default)]
struct Tally {
    bytes: AtomicU64,
    evictions: AtomicU64,
    created: AtomicU64,
    /// Of these, how many at the last sweep.
    created_at_sweep: AtomicU64,
    /// Monotonic.
    next_sweep: AtomicU64,
}

#[derive(Clone)]
struct Shelf {
    slot: Arc<Slot>,
    bytes: u64,
}

impl Shelf {
    fn is_pinned(&self) -> bool {
        Arc::strong_count(&self.slot) > 1
    }
}

impl SlotMap {
    pub(super) fn new(max_entries: usize, max_bytes: u64) -> Self {
        let max_entries = max_entries.max(1);
        let share = (max_bytes / max_entries as u64).max(1);
        let capacity = share.saturating_mul(max_entries as u64);
        let tally = Arc::new(Tally::default());
        let by_weight = ByWeight {
            share,
            heaviest: Arc::default(),
        };
        let heaviest = Arc::clone(&by_weight.heaviest);
        // It remembers half as many that are gone, which no weight counts: no more than could ever be there.
        let entries = max_entries.min(usize::try_from(max_bytes / LIGHT).unwrap_or(usize::MAX));
        let mut options = OptionsBuilder::new();
        options
            .estimated_items_capacity(entries.max(1))
            .weight_capacity(capacity);
        let pinning = Pinning(Arc::clone(&tally));
        let cache = match options.build() {
            Ok(options) => Cache::with_options(options, by_weight, Default::default(), pinning),
            // Both capacities were given, which is all that is asked for.
            Err(_) => Cache::with(entries, capacity, by_weight, Default::default(), pinning),
        };
        heaviest.get_or_init(|| cache.shard_capacity().max(1));
        Self {
            cache,
            tally,
            share,
        }
    }

    pub(super) fn get(&self, spec: &TokenSpec) -> Option<Arc<Slot>> {
        self.cache.get(spec).map(|shelf| shelf.slot)
    }

    /// Looks without counting it as a use.
    pub(super) fn peek(&self, spec: &TokenSpec) -> Option<Arc<Slot>> {
        self.cache.peek(spec).map(|shelf| shelf.slot)
    }

    /// The spec's slot, made if there is none.
    pub(super) fn get_or_make(&self, spec: &TokenSpec, now: Moment) -> Arc<Slot> {
        if let Some(slot) = self.get(spec) {
            return slot;
        }
        self.sweep_if_full(now);
        let made = self
            .cache
            .get_or_insert_with::<_, std::convert::Infallible>(spec, || {
                let shelf = Self::shelf(Arc::new(Slot::new(spec.clone())));
                self.tally.bytes.fetch_add(shelf.bytes, Ordering::Relaxed);
                self.tally.created.fetch_add(1, Ordering::Relaxed);
                Ok(shelf)
            });
        match made {
            Ok(shelf) => shelf.slot,
        }
    }

    /// The slot's token has changed: weighs it again.
    pub(super) fn weigh(&self, slot: &Arc<Slot>) {
        let Some(before) = self.cache.peek(slot.spec()) else {
            return;
        };
        if !Arc::ptr_eq(&before.slot, slot) {
            return;
        }
        let after = Self::shelf(Arc::clone(slot));
        let bytes = after.bytes;
        // Added first: a sum that went below zero in between would be seen as a huge one.
        self.tally.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut anew = Some(Arc::clone(slot));
        let spec = slot.spec().clone();
        let replaced = self
            .cache
            .replace_with_lifecycle(spec, after, true, &mut anew);
        if replaced.is_err() {
            self.tally.take_bytes(bytes);
        }
    }

    /// Forgets a spec. What is held by somebody is emptied where it stands.
    pub(super) fn remove(&self, spec: &TokenSpec) -> bool {
        let Some(slot) = self.peek(spec) else {
            return false;
        };
        let had_token = slot.empty();
        drop(slot);
        if let Some((_, shelf)) = self.cache.remove_if(spec, |shelf| !shelf.is_pinned()) {
            self.tally.take_bytes(shelf.bytes);
        }
        had_token
    }

    pub(super) fn clear(&self) {
        for slot in self.slots() {
            slot.empty();
        }
        self.retain(Shelf::is_pinned);
    }

    pub(super) fn slots(&self) -> Vec<Arc<Slot>> {
        self.cache.iter().map(|(_, shelf)| shelf.slot).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.tally.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn evictions(&self) -> u64 {
        self.tally.evictions.load(Ordering::Relaxed)
    }

    /// Expired ones go first: when the map is three quarters full (its shards fill unevenly, and one that is full evicts what
    /// is used least), and not after every entry that comes in.
    fn sweep_if_full(&self, now: Moment) {
        let full = self.cache.weight() + self.share > self.cache.capacity() / 4 * 3;
        let created = self.tally.created.load(Ordering::Relaxed);
        let since = created.saturating_sub(self.tally.created_at_sweep.load(Ordering::Relaxed));
        if full && since >= self.cache.len() as u64 / SWEEP_SHARE {
            self.sweep(now);
        }
    }

    /// What has been over for so long, and nobody asks for, gives its memory back: seen to whenever a fetch has ended.
    pub(super) fn sweep_if_due(&self, now: Moment, idle: Duration) {
        let due = self.tally.next_sweep.load(Ordering::Relaxed);
        let next = (now + idle).monotonic;
        let next_sweep = &self.tally.next_sweep;
        let swap = || next_sweep.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
        // The first time there is nothing to sweep yet; of several at once, one sweeps.
        if now.monotonic >= due && swap().is_ok() && due != 0 {
            self.sweep(now.earlier_by(idle));
        }
    }

    fn sweep(&self, over_by: Moment) {
        let created = self.tally.created.load(Ordering::Relaxed);
        self.tally
            .created_at_sweep
            .store(created, Ordering::Relaxed);
        let gone = self.retain(|shelf| shelf.is_pinned() || shelf.slot.is_worth_keeping(over_by));
        self.tally.evictions.fetch_add(gone, Ordering::Relaxed);
    }

    /// Keeps only these, and says how many are gone.
    fn retain(&self, keep: impl Fn(&Shelf) -> bool) -> u64 {
        let gone = AtomicU64::new(0);
        self.cache.retain(|_, shelf| {
            let kept = keep(shelf);
            if !kept {
                self.tally.take_bytes(shelf.bytes);
                gone.fetch_add(1, Ordering::Relaxed);
            }
            kept
        });
        gone.into_inner()
    }

    fn shelf(slot: Arc<Slot>) -> Shelf {
        let bytes = (slot.weight() + OVERHEAD) as u64;
        Shelf { slot, bytes }
    }
}

#[cfg(test)]
impl SlotMap {
    /// Does something for each entry, under its shard's lock.
    pub(super) fn sweep_with(&self, act: impl Fn()) {
        self.cache.retain(|_, _| {
            act();
            true
        });
    }
}

impl Tally {
    fn take_bytes(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(Clone)]
struct ByWeight {
    /// An entry's share of the bytes: it weighs no less.
    share: u64,
    /// What a shard holds; known once there are shards.
    heaviest: Arc<OnceLock<u64>>,
}

impl Weighter<TokenSpec, Shelf> for ByWeight {
    fn weight(&self, _: &TokenSpec, shelf: &Shelf) -> u64 {
        // Heavier than its shard, an entry would not be let in, and be fetched for ever.
        let heaviest = self.heaviest.get().copied().unwrap_or(u64::MAX);
        shelf.bytes.clamp(self.share.min(heaviest), heaviest)
    }
}

#[derive(Clone)]
struct Pinning(Arc<Tally>);

impl Lifecycle<TokenSpec, Shelf> for Pinning {
    /// The slot that goes in anew: what it takes the place of is not evicted.
    type RequestState = Option<Arc<Slot>>;

    fn is_pinned(&self, _: &TokenSpec, shelf: &Shelf) -> bool {
        shelf.is_pinned()
    }

    /// Called for what is evicted, and for what is replaced too.
    fn on_evict(&self, anew: &mut Option<Arc<Slot>>, _: TokenSpec, shelf: Shelf) {
        self.0.take_bytes(shelf.bytes);
        let replaced = |slot: &Arc<Slot>| Arc::ptr_eq(slot, &shelf.slot);
        if !anew.as_ref().is_some_and(replaced) {
            self.0.evictions.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A spec is hashed when it is built; here its hash is only handed on.
#[derive(Default)]
struct Precomputed(u64);

impl Hasher for Precomputed {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment {
        monotonic: 1,
        wall: 1,
    };

    fn spec(i: usize) -> TokenSpec {
        TokenSpec::default().with_tenant(format!("t{i}"))
    }

    #[test]
    fn the_bound_holds_far_past_it() {
        let map = SlotMap::new(100, 1 << 20);
        for i in 0..10_000 {
            map.get_or_make(&spec(i), NOW);
        }
        assert!(map.len() <= 110, "{}", map.len());
        let counted: u64 = map.cache.iter().map(|(_, shelf)| shelf.bytes).sum();
        assert_eq!(map.bytes(), counted);
    }

    #[test]
    fn a_small_bound_holds_too() {
        for max in 1..40 {
            let map = SlotMap::new(max, 1 << 20);
            for i in 0..500 {
                map.get_or_make(&spec(i), NOW);
            }
            assert!((1..=max).contains(&map.len()), "{} of {max}", map.len());
        }
    }

    #[test]
    fn an_entry_heavier_than_the_bound_is_kept_nevertheless() {
        let map = SlotMap::new(100, 200);
        let slot = map.get_or_make(&spec(0), NOW);
        assert!(Arc::ptr_eq(&slot, &map.get_or_make(&spec(0), NOW)));
    }

    #[test]
    fn an_entry_that_is_weighed_again_counts_once_and_is_not_evicted() {
        let map = SlotMap::new(10, 1 << 20);
        let slot = map.get_or_make(&spec(0), NOW);
        let bytes = map.bytes();
        for _ in 0..3 {
            map.weigh(&slot);
        }
        assert_eq!((map.len(), map.bytes(), map.evictions()), (1, bytes, 0));
    }

    #[test]
    fn an_entry_that_somebody_holds_stays() {
        let map = SlotMap::new(10, 1 << 20);
        let held = map.get_or_make(&spec(0), NOW);
        for i in 1..1_000 {
            map.get_or_make(&spec(i), NOW);
        }
        let again = map.get_or_make(&spec(0), NOW);
        assert!(Arc::ptr_eq(&held, &again));
        assert!(map.evictions() > 0);
    }

    #[test]
    fn an_entry_that_somebody_holds_is_emptied_where_it_stands() {
        let map = SlotMap::new(10, 1 << 20);
        let held = map.get_or_make(&spec(0), NOW);
        map.get_or_make(&spec(1), NOW);
        map.clear();
        assert_eq!(map.len(), 1);
        assert!(Arc::ptr_eq(&held, &map.get_or_make(&spec(0), NOW)));
        drop(held);
        map.remove(&spec(0));
        assert_eq!((map.len(), map.bytes()), (0, 0));
    }
}
