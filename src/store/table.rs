//! Implements the contract of a store without I/O: values, leases and fences in a table. The caller passes the time.
//!
//! The memory store holds a table behind a lock; the file store reads and writes one. Times are in microseconds since an epoch
//! that all users of the table share. A clock that is set back is tolerated.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::{Fence, Lease, Name};

/// Values, leases and fences by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) entries: BTreeMap<Name, TableEntry>,
}

/// The contents of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableEntry {
    pub(super) value: Option<Expiring<Bytes>>,
    pub(super) lease: Option<Expiring<Box<str>>>,
    /// The highest fence granted. It outlives its lease, to refuse late writes with lower fences.
    pub(super) fence: Option<Expiring<u64>>,
}

/// A value with its period of validity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expiring<T> {
    pub(super) value: T,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// How long a fence is remembered after its lease: longer than a process could be suspended.
pub(super) const FENCE_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How far a clock may be set back without effect, since synchronized clocks are adjusted by small steps: one minute, in
/// microseconds.
const CLOCK_TOLERANCE: u64 = 60_000_000;

impl<T> Expiring<T> {
    fn new(value: T, lifetime: Duration, now: u64) -> Self {
        Self {
            value,
            start: now,
            // A lifetime of zero ends after the current moment.
            end: now.saturating_add(micros(lifetime).max(1)),
        }
    }

    /// Returns `true` after the end, and also long before the start: if a clock was set back, expired values must not become
    /// valid again, and a lease must not block for longer than its lifetime.
    fn is_expired(&self, now: u64) -> bool {
        self.end <= now || now.saturating_add(CLOCK_TOLERANCE) < self.start
    }
}

impl Table {
    pub(super) fn get(&self, name: &Name, now: u64) -> Option<Bytes> {
        let value = self.entries.get(name)?.value.as_ref()?;
        (!value.is_expired(now)).then(|| value.value.clone())
    }

    pub(super) fn put(
        &mut self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
        now: u64,
    ) -> bool {
        let entry = self.entry(name, now);
        let highest = entry.fence.as_ref().map(|fence| fence.value);
        if fence.is_some_and(|fence| Some(fence.get()) < highest) {
            return false;
        }
        entry.value = Some(Expiring::new(value, lifetime, now));
        true
    }

    pub(super) fn delete_if(&mut self, name: &Name, value: &Bytes, now: u64) -> bool {
        let entry = self.entry(name, now);
        entry.value.take_if(|held| held.value == *value).is_some()
    }

    /// Grants the lease to this holder, unless it is taken.
    pub(super) fn lease(
        &mut self,
        name: &Name,
        lifetime: Duration,
        holder: &str,
        now: u64,
    ) -> Option<Lease> {
        let entry = self.entry(name, now);
        if entry.lease.is_some() {
            return None;
        }
        // The fence is at least the time, so fences also grow after the table was lost.
        let highest = entry.fence.as_ref().map_or(0, |fence| fence.value);
        let fence = highest.saturating_add(1).max(now);
        let remembered = lifetime.saturating_add(FENCE_LIFETIME);
        entry.fence = Some(Expiring::new(fence, remembered, now));
        entry.lease = Some(Expiring::new(holder.into(), lifetime, now));
        Some(Lease::new(Fence::new(fence), holder))
    }

    pub(super) fn release(&mut self, name: &Name, lease: &Lease, now: u64) -> bool {
        let entry = self.entry(name, now);
        let released = entry.lease.take_if(|held| *held.value == *lease.holder());
        released.is_some()
    }

    /// Removes everything that has expired.
    pub(super) fn prune(&mut self, now: u64) {
        self.entries.retain(|_, entry| {
            entry.prune(now);
            entry.value.is_some() || entry.lease.is_some() || entry.fence.is_some()
        });
    }

    /// Returns the size of all names and values in bytes.
    #[cfg(feature = "file")]
    pub(super) fn size(&self) -> usize {
        self.entries
            .iter()
            .map(|(name, entry)| {
                name.as_str().len() + entry.value.as_ref().map_or(0, |held| held.value.len())
            })
            .sum()
    }

    /// Removes values, in the order of their expiry, until at most `size` bytes are left. The value of `keep` stays.
    #[cfg(feature = "file")]
    pub(super) fn shrink(&mut self, size: usize, keep: &Name) {
        let mut left = self.size();
        let others = self.entries.iter_mut().filter(|(name, _)| *name != keep);
        let mut values: Vec<_> = others.map(|(_, entry)| &mut entry.value).collect();
        values.sort_by_key(|value| value.as_ref().map(|held| held.end));
        for value in values {
            if left <= size {
                return;
            }
            left -= value.take().map_or(0, |held| held.value.len());
        }
    }

    /// Returns the entry of this name without its expired parts.
    fn entry(&mut self, name: &Name, now: u64) -> &mut TableEntry {
        let entry = self.entries.entry(name.clone()).or_default();
        entry.prune(now);
        entry
    }
}

impl TableEntry {
    fn prune(&mut self, now: u64) {
        self.value.take_if(|held| held.is_expired(now));
        self.lease.take_if(|held| held.is_expired(now));
        // Only by its end: a clock that was set back must not make fences smaller.
        self.fence.take_if(|held| held.end <= now);
    }
}

/// Returns the microseconds of a duration, at most `u64::MAX`.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NOW: u64 = 1_700_000_000_000_000;

    fn name(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    #[test]
    fn clock_set_back_by_an_hour_ends_values_and_leases() {
        let mut table = Table::default();
        table.put(&name("a"), "v".into(), MINUTE, None, NOW);
        let first = table.lease(&name("a"), MINUTE, "one", NOW).unwrap();
        let back = NOW - micros(MINUTE * 60);
        assert_eq!(table.get(&name("a"), back), None);
        let second = table.lease(&name("a"), MINUTE, "two", back).unwrap();
        assert!(first.fence() < second.fence());
    }

    #[test]
    fn clock_set_back_by_a_second_ends_nothing() {
        let mut table = Table::default();
        table.put(&name("a"), "v".into(), MINUTE, None, NOW);
        table.lease(&name("a"), MINUTE, "one", NOW).unwrap();
        let back = NOW - 1_000_000;
        assert!(table.get(&name("a"), back).is_some());
        assert_eq!(table.lease(&name("a"), MINUTE, "two", back), None);
    }

    #[test]
    fn fences_grow_after_the_table_was_lost() {
        let mut lost = Table::default();
        let mut before = Fence::new(0);
        for i in 0..1000 {
            let lease = lost
                .lease(&name("a"), Duration::ZERO, "one", NOW + i)
                .unwrap();
            assert!(before < lease.fence());
            before = lease.fence();
        }
        let mut restarted = Table::default();
        let lease = restarted
            .lease(&name("a"), MINUTE, "one", NOW + 2000)
            .unwrap();
        assert!(before < lease.fence());
    }

    #[test]
    fn expired_entries_are_removed_after_a_day() {
        let mut table = Table::default();
        table.put(&name("a"), "v".into(), MINUTE, None, NOW);
        table.lease(&name("b"), MINUTE, "one", NOW).unwrap();
        table.prune(NOW + micros(MINUTE));
        assert_eq!(table.entries.len(), 1, "the fence is remembered");
        table.prune(NOW + micros(MINUTE + FENCE_LIFETIME));
        assert_eq!(table, Table::default());
    }

    #[cfg(feature = "file")]
    #[test]
    fn values_that_expire_first_make_room() {
        let mut table = Table::default();
        for (i, minutes) in [(0, 3), (1, 1), (2, 2), (3, 1)] {
            let value = vec![0; 99].into();
            table.put(&name(&i.to_string()), value, MINUTE * minutes, None, NOW);
        }
        table.shrink(202, &name("3"));
        let left = [0, 1, 2, 3].map(|i| table.get(&name(&i.to_string()), NOW).is_some());
        assert_eq!(left, [true, false, false, true]);
    }
}
