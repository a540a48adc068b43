//! The bounded map from spec to slot.
//!
//! An entry's weight is fixed when it goes in; when its token changes, it goes in anew. A weight is at least its share of
//! the entries, so one bound on the sum of weights holds both bounds: entries and bytes. An entry that anybody holds (a
//! route, a flight, a waiter) is not evicted: there are never two slots for one spec.

use std::{
    convert::Infallible,
    hash::{BuildHasherDefault, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use quick_cache::{Lifecycle, Weighter, sync::Cache};

use super::slot::Slot;
use crate::{clock::Moment, token::TokenSpec};

/// Between two sweeps for what has expired, at least this share of the entries comes in.
const SWEEP_SHARE: u64 = 8;
/// What an entry weighs whose token is short, about.
const LIGHT: u64 = 512;
/// What quick_cache, the allocator and reference counts add to an entry.
const OVERHEAD: usize = 128;

pub(super) struct SlotMap {
    cache: Cache<TokenSpec, MapEntry, ByWeight, BuildHasherDefault<Precomputed>, Pinning>,
    counters: Arc<MapCounters>,
    share: u64,
    heaviest: u64,
}

/// What the map counts as entries come and go.
#[derive(Default)]
struct MapCounters {
    bytes: AtomicU64,
    evictions: AtomicU64,
    created_since_sweep: AtomicU64,
    /// Monotonic.
    next_sweep: AtomicU64,
}

#[derive(Clone)]
struct MapEntry {
    slot: Arc<Slot>,
    bytes: u64,
}

impl MapEntry {
    fn is_pinned(&self) -> bool {
        Arc::strong_count(&self.slot) > 1
    }
}

impl SlotMap {
    pub(super) fn new(max_entries: usize, max_bytes: u64) -> Self {
        let max_entries = max_entries.max(1);
        let share = (max_bytes / max_entries as u64).max(1);
        let capacity = share.saturating_mul(max_entries as u64);
        let counters = Arc::new(MapCounters::default());
        // It remembers half as many that are gone, which no weight counts: no more than could ever be there.
        let entries =
            usize::try_from(max_bytes / LIGHT).map_or(max_entries, |n| n.clamp(1, max_entries));
        let pinning = Pinning(Arc::clone(&counters));
        let by_weight = ByWeight { share };
        let cache = Cache::with(entries, capacity, by_weight, Default::default(), pinning);
        Self {
            heaviest: cache.shard_capacity(),
            cache,
            counters,
            share,
        }
    }

    pub(super) fn get(&self, spec: &TokenSpec) -> Option<Arc<Slot>> {
        self.cache.get(spec).map(|entry| entry.slot)
    }

    /// Looks without counting it as a use.
    pub(super) fn peek(&self, spec: &TokenSpec) -> Option<Arc<Slot>> {
        self.cache.peek(spec).map(|entry| entry.slot)
    }

    /// The spec's slot, made if there is none.
    pub(super) fn get_or_insert(&self, spec: &TokenSpec, now: Moment) -> Arc<Slot> {
        if let Some(slot) = self.get(spec) {
            return slot;
        }
        self.sweep_if_full(now);
        let Ok(entry) = self.cache.get_or_insert_with(spec, || {
            self.counters.created_since_sweep.fetch_add(1, Relaxed);
            Ok::<_, Infallible>(self.entry(Arc::new(Slot::new(spec.clone()))))
        });
        entry.slot
    }

    /// The slot's token has changed: weighs it again.
    pub(super) fn reweigh(&self, slot: &Arc<Slot>) {
        if self
            .peek(slot.spec())
            .is_none_or(|known| !Arc::ptr_eq(&known, slot))
        {
            return;
        }
        let entry = self.entry(Arc::clone(slot));
        if let Err((_, entry)) = self.cache.replace(slot.spec().clone(), entry, true) {
            self.counters.subtract_bytes(&entry);
        }
    }

    /// Forgets a spec. What is held by somebody is emptied where it stands.
    pub(super) fn remove(&self, slot: Arc<Slot>) -> bool {
        let spec = slot.spec().clone();
        let had_token = slot.clear();
        drop(slot);
        if let Some((_, entry)) = self.cache.remove_if(&spec, |entry| !entry.is_pinned()) {
            self.counters.subtract_bytes(&entry);
        }
        had_token
    }

    pub(super) fn slots(&self) -> Vec<Arc<Slot>> {
        self.cache.iter().map(|(_, entry)| entry.slot).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.counters.bytes.load(Relaxed)
    }

    pub(super) fn evictions(&self) -> u64 {
        self.counters.evictions.load(Relaxed)
    }

    /// Expired ones go first: when the map is three quarters full (its shards fill unevenly, and one that is full evicts what
    /// is used least), and not after every entry that comes in.
    fn sweep_if_full(&self, now: Moment) {
        let full = self.cache.weight() + self.share > self.cache.capacity() / 4 * 3;
        let created = self.counters.created_since_sweep.load(Relaxed);
        if full && created >= self.cache.len() as u64 / SWEEP_SHARE {
            self.sweep(now);
        }
    }

    /// What has been over for so long, and nobody asks for, gives its memory back: seen to whenever a fetch has ended.
    pub(super) fn sweep_if_due(&self, now: Moment, idle: Duration) {
        let next = |due| (now.monotonic >= due).then(|| (now + idle).monotonic);
        let claimed = self
            .counters
            .next_sweep
            .fetch_update(Relaxed, Relaxed, next);
        // The first time there is nothing to sweep yet; of several at once, one sweeps.
        if claimed.is_ok_and(|due| due != 0) {
            self.sweep(now.earlier_by(idle));
        }
    }

    fn sweep(&self, over_by: Moment) {
        self.counters.created_since_sweep.store(0, Relaxed);
        self.cache.retain(|_, entry| {
            let kept = entry.is_pinned() || entry.slot.is_worth_keeping(over_by);
            if !kept {
                self.counters.evict(entry);
            }
            kept
        });
    }

    /// Makes an entry and counts its bytes.
    fn entry(&self, slot: Arc<Slot>) -> MapEntry {
        // Heavier than its shard, an entry would not be let in, and be fetched for ever.
        let bytes = ((slot.weight() + OVERHEAD) as u64).min(self.heaviest);
        self.counters.bytes.fetch_add(bytes, Relaxed);
        MapEntry { slot, bytes }
    }
}

#[cfg(test)]
impl SlotMap {
    /// Does something for each entry, under its shard's lock.
    pub(super) fn with_shards_locked(&self, act: impl Fn()) {
        self.cache.retain(|_, _| {
            act();
            true
        });
    }
}

impl MapCounters {
    fn subtract_bytes(&self, entry: &MapEntry) {
        self.bytes.fetch_sub(entry.bytes, Relaxed);
    }

    fn evict(&self, entry: &MapEntry) {
        self.subtract_bytes(entry);
        self.evictions.fetch_add(1, Relaxed);
    }
}

#[derive(Clone)]
struct ByWeight {
    /// An entry's share of the bytes: it weighs no less.
    share: u64,
}

impl Weighter<TokenSpec, MapEntry> for ByWeight {
    fn weight(&self, _: &TokenSpec, entry: &MapEntry) -> u64 {
        entry.bytes.max(self.share)
    }
}

#[derive(Clone)]
struct Pinning(Arc<MapCounters>);

impl Lifecycle<TokenSpec, MapEntry> for Pinning {
    type RequestState = ();

    fn is_pinned(&self, _: &TokenSpec, entry: &MapEntry) -> bool {
        entry.is_pinned()
    }

    /// Called for what is evicted, and for what is replaced too.
    fn on_evict(&self, (): &mut (), _: TokenSpec, entry: MapEntry) {
        // Only an entry that was replaced can be pinned: the new one holds its slot.
        if entry.is_pinned() {
            self.0.subtract_bytes(&entry);
        } else {
            self.0.evict(&entry);
        }
    }
}

/// A spec is hashed when it is built; here its hash is only handed on.
#[derive(Default)]
struct Precomputed(u64);

impl Hasher for Precomputed {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.try_into().map_or(0, u64::from_ne_bytes);
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
            map.get_or_insert(&spec(i), NOW);
        }
        assert!(map.len() <= 110, "{}", map.len());
        let counted: u64 = map.cache.iter().map(|(_, entry)| entry.bytes).sum();
        assert_eq!(map.bytes(), counted);
    }

    #[test]
    fn a_small_bound_holds_too() {
        for max in 1..40 {
            let map = SlotMap::new(max, 1 << 20);
            for i in 0..500 {
                map.get_or_insert(&spec(i), NOW);
            }
            assert!((1..=max).contains(&map.len()), "{} of {max}", map.len());
        }
    }

    #[test]
    fn an_entry_heavier_than_the_bound_is_kept_nevertheless() {
        let map = SlotMap::new(100, 200);
        let slot = map.get_or_insert(&spec(0), NOW);
        assert!(Arc::ptr_eq(&slot, &map.get_or_insert(&spec(0), NOW)));
    }

    #[test]
    fn an_entry_that_is_weighed_again_counts_once_and_is_not_evicted() {
        let map = SlotMap::new(10, 1 << 20);
        let slot = map.get_or_insert(&spec(0), NOW);
        let bytes = map.bytes();
        for _ in 0..3 {
            map.reweigh(&slot);
        }
        assert_eq!((map.len(), map.bytes(), map.evictions()), (1, bytes, 0));
    }

    #[test]
    fn an_entry_that_somebody_holds_stays() {
        let map = SlotMap::new(10, 1 << 20);
        let held = map.get_or_insert(&spec(0), NOW);
        for i in 1..1_000 {
            map.get_or_insert(&spec(i), NOW);
        }
        let again = map.get_or_insert(&spec(0), NOW);
        assert!(Arc::ptr_eq(&held, &again));
        assert!(map.evictions() > 0);
    }

    #[test]
    fn an_entry_that_somebody_holds_is_emptied_where_it_stands() {
        let map = SlotMap::new(10, 1 << 20);
        let held = map.get_or_insert(&spec(0), NOW);
        map.get_or_insert(&spec(1), NOW);
        for slot in map.slots() {
            map.remove(slot);
        }
        assert_eq!(map.len(), 1);
        assert!(Arc::ptr_eq(&held, &map.get_or_insert(&spec(0), NOW)));
        map.remove(held);
        assert_eq!((map.len(), map.bytes()), (0, 0));
    }
}
