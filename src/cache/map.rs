//! Implements the map from specs to slots, which is bounded by entries and by bytes.
//!
//! The weight of an entry is fixed when the entry is inserted, so an entry whose token has changed is inserted again. An entry
//! weighs at least the maximum number of bytes divided by the maximum number of entries, so a limit on the total weight
//! enforces both bounds. An entry whose slot is in use by a route, a fetch or a waiter is never evicted. Otherwise there
//! could be two slots for one spec.

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

/// Between two removals of expired entries in a full map, at least one entry is created per this many entries.
const PURGE_SHARE: u64 = 8;
/// The approximate size of an entry with a short token.
const LIGHT: u64 = 512;
/// The bytes that quick_cache, the allocator and reference counts add to an entry.
const OVERHEAD: usize = 128;

pub(super) struct SlotMap {
    cache: Cache<TokenSpec, MapEntry, ByWeight, BuildHasherDefault<Precomputed>, Pinning>,
    counters: Arc<MapCounters>,
    /// The maximum weight of an entry.
    heaviest: u64,
}

/// The counters of the map.
#[derive(Default)]
struct MapCounters {
    bytes: AtomicU64,
    evictions: AtomicU64,
    created_since_purge: AtomicU64,
    /// Monotonic.
    next_purge: AtomicU64,
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
        // The cache also remembers the keys of evicted entries, half as many as this number. Their weight is not counted.
        let entries =
            usize::try_from(max_bytes / LIGHT).map_or(max_entries, |n| n.clamp(1, max_entries));
        let pinning = Pinning(Arc::clone(&counters));
        let by_weight = ByWeight { share };
        let cache = Cache::with(entries, capacity, by_weight, Default::default(), pinning);
        Self {
            heaviest: cache.shard_capacity(),
            cache,
            counters,
        }
    }

    pub(super) fn get(&self, spec: &TokenSpec) -> Option<Arc<Slot>> {
        self.cache.get(spec).map(|entry| entry.slot)
    }

    /// Returns the spec's slot, if there is one, without counting it as a use.
    pub(super) fn peek(&self, spec: &TokenSpec) -> Option<Arc<Slot>> {
        self.cache.peek(spec).map(|entry| entry.slot)
    }

    /// Returns the spec's slot, and creates it if necessary.
    pub(super) fn get_or_insert(
        &self,
        spec: &TokenSpec,
        now: impl FnOnce() -> Moment,
    ) -> Arc<Slot> {
        if let Some(slot) = self.get(spec) {
            return slot;
        }
        self.purge_if_full(now());
        let Ok(entry) = self.cache.get_or_insert_with(spec, || {
            self.counters.created_since_purge.fetch_add(1, Relaxed);
            Ok::<_, Infallible>(self.entry(Arc::new(Slot::new(spec.clone()))))
        });
        entry.slot
    }

    /// Updates the weight of a slot whose token has changed.
    pub(super) fn reweigh(&self, slot: &Arc<Slot>) {
        let known = self.peek(slot.spec());
        if !known.is_some_and(|known| Arc::ptr_eq(&known, slot)) {
            return;
        }
        let entry = self.entry(Arc::clone(slot));
        if let Err((_, entry)) = self.cache.replace(slot.spec().clone(), entry, true) {
            self.counters.subtract_bytes(&entry);
        }
    }

    /// Clears the slot, and removes its entry unless the slot is in use elsewhere. Returns `true` if it had a token.
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

    /// Removes expired entries if the map is three quarters full, so that they are evicted before usable ones. Its shards fill
    /// unevenly, and a full shard evicts its least used entries.
    fn purge_if_full(&self, now: Moment) {
        let full = self.cache.weight() >= self.cache.capacity() / 4 * 3;
        let created = self.counters.created_since_purge.load(Relaxed);
        if full && created >= self.cache.len() as u64 / PURGE_SHARE {
            self.purge(now);
        }
    }

    /// Removes the entries that have been expired for `idle`, once per that time.
    pub(super) fn purge_if_due(&self, now: Moment, idle: Duration) {
        let next = |due| (now.monotonic >= due).then(|| (now + idle).monotonic);
        let next_purge = &self.counters.next_purge;
        let claimed = next_purge.fetch_update(Relaxed, Relaxed, next);
        // If several callers are due, one of them succeeds here. The first call only sets the time of the next one.
        if claimed.is_ok_and(|due| due != 0) {
            self.purge(now.earlier_by(idle));
        }
    }

    fn purge(&self, expired_by: Moment) {
        self.counters.created_since_purge.store(0, Relaxed);
        self.cache.retain(|_, entry| {
            let kept = entry.is_pinned() || entry.slot.is_worth_keeping(expired_by);
            if !kept {
                self.counters.evict(entry);
            }
            kept
        });
    }

    /// Creates an entry and counts its bytes.
    fn entry(&self, slot: Arc<Slot>) -> MapEntry {
        // The cache doesn't accept an entry that is heavier than its shard, so its token would be fetched for every request.
        let bytes = ((slot.weight() + OVERHEAD) as u64).min(self.heaviest);
        self.counters.bytes.fetch_add(bytes, Relaxed);
        MapEntry { slot, bytes }
    }
}

#[cfg(test)]
impl SlotMap {
    /// Calls `act` for each entry, under the lock of its shard.
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
    /// The minimum weight of an entry.
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

    /// Is called for evicted entries and for replaced ones.
    fn on_evict(&self, (): &mut (), _: TokenSpec, entry: MapEntry) {
        // Only a replaced entry is pinned here, because the new entry has the same slot.
        if entry.is_pinned() {
            self.0.subtract_bytes(&entry);
        } else {
            self.0.evict(&entry);
        }
    }
}

/// Returns the hash that a spec computed when it was built.
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
    fn map_stays_within_its_bound() {
        let map = SlotMap::new(100, 1 << 20);
        for i in 0..10_000 {
            map.get_or_insert(&spec(i), || NOW);
        }
        assert!(map.len() <= 110, "{}", map.len());
        let counted: u64 = map.cache.iter().map(|(_, entry)| entry.bytes).sum();
        assert_eq!(map.bytes(), counted);
    }

    #[test]
    fn map_stays_within_a_small_bound() {
        for max in 1..40 {
            let map = SlotMap::new(max, 1 << 20);
            for i in 0..500 {
                map.get_or_insert(&spec(i), || NOW);
            }
            assert!((1..=max).contains(&map.len()), "{} of {max}", map.len());
        }
    }

    #[test]
    fn entry_heavier_than_the_bound_is_kept() {
        let map = SlotMap::new(100, 200);
        let slot = map.get_or_insert(&spec(0), || NOW);
        assert!(Arc::ptr_eq(&slot, &map.get_or_insert(&spec(0), || NOW)));
    }

    #[test]
    fn reweighed_entry_counts_once_and_is_not_evicted() {
        let map = SlotMap::new(10, 1 << 20);
        let slot = map.get_or_insert(&spec(0), || NOW);
        let bytes = map.bytes();
        for _ in 0..3 {
            map.reweigh(&slot);
        }
        assert_eq!((map.len(), map.bytes(), map.evictions()), (1, bytes, 0));
    }

    #[test]
    fn entry_in_use_is_not_evicted() {
        let map = SlotMap::new(10, 1 << 20);
        let in_use = map.get_or_insert(&spec(0), || NOW);
        for i in 1..1_000 {
            map.get_or_insert(&spec(i), || NOW);
        }
        let again = map.get_or_insert(&spec(0), || NOW);
        assert!(Arc::ptr_eq(&in_use, &again));
        assert!(map.evictions() > 0);
    }

    #[test]
    fn entry_in_use_is_cleared_but_not_removed() {
        let map = SlotMap::new(10, 1 << 20);
        let in_use = map.get_or_insert(&spec(0), || NOW);
        map.get_or_insert(&spec(1), || NOW);
        for slot in map.slots() {
            map.remove(slot);
        }
        assert_eq!(map.len(), 1);
        assert!(Arc::ptr_eq(&in_use, &map.get_or_insert(&spec(0), || NOW)));
        map.remove(in_use);
        assert_eq!((map.len(), map.bytes()), (0, 0));
    }
}
