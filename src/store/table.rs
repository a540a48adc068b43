//! What a store does, as a state machine without I/O: values, leases and fences, and a time that is given.
//!
//! The memory store keeps one behind a lock, the file store reads and writes one. The time is in microseconds since any
//! moment that all users of a table mean; it should not go back, and harm is bounded where it does.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::{Fence, Lease, Name};

/// Values, leases and fences by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) entries: BTreeMap<Name, TableEntry>,
}

/// What there is under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableEntry {
    pub(super) value: Option<Expiring<Bytes>>,
    pub(super) lease: Option<Expiring<Box<str>>>,
    /// The highest that was given, for as long as anybody may come with a lower one.
    pub(super) fence: Option<Expiring<u64>>,
}

/// Something that is over at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expiring<T> {
    pub(super) value: T,
    pub(super) start: u64,
    pub(super) end: u64,
}

/// How long a fence is remembered after its lease: longer than anybody sleeps over the end of one.
pub(super) const FENCE_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How far a clock may go back unnoticed: clocks that are kept in time make small steps. A minute, in microseconds.
const STEP_BACK: u64 = 60_000_000;

impl<T> Expiring<T> {
    fn new(value: T, lifetime: Duration, now: u64) -> Self {
        Self {
            value,
            start: now,
            end: now.saturating_add(micros(lifetime)),
        }
    }

    /// Also where it has not begun yet: a clock that was set back revives nothing, and holds up nobody.
    fn is_expired(&self, now: u64) -> bool {
        self.end <= now || now.saturating_add(STEP_BACK) < self.start
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
        entry.value.take_if(|kept| kept.value == *value).is_some()
    }

    /// Gives a lease to this holder, if nobody has it.
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
        // A table that was lost and begun anew goes on above the fences it gave: the time is above them all.
        let highest = entry.fence.as_ref().map_or(0, |fence| fence.value);
        let fence = highest.saturating_add(1).max(now);
        entry.fence = Some(Expiring::new(
            fence,
            lifetime.saturating_add(FENCE_LIFETIME),
            now,
        ));
        entry.lease = Some(Expiring::new(holder.into(), lifetime, now));
        Some(Lease::new(Fence::new(fence), holder))
    }

    pub(super) fn release(&mut self, name: &Name, lease: &Lease, now: u64) -> bool {
        let entry = self.entry(name, now);
        let ours = entry.lease.take_if(|kept| *kept.value == *lease.holder());
        ours.is_some()
    }

    /// Drops everything that is over.
    pub(super) fn prune(&mut self, now: u64) {
        self.entries.retain(|_, entry| {
            entry.prune(now);
            entry.value.is_some() || entry.lease.is_some() || entry.fence.is_some()
        });
    }

    /// Bytes of all values and names.
    #[cfg(feature = "file")]
    pub(super) fn size(&self) -> usize {
        self.entries
            .iter()
            .map(|(name, entry)| {
                name.as_str().len() + entry.value.as_ref().map_or(0, |kept| kept.value.len())
            })
            .sum()
    }

    /// Drops values, those that end first, until no more than so many bytes are left; never that of this name.
    #[cfg(feature = "file")]
    pub(super) fn shrink(&mut self, size: usize, keep: &Name) {
        let mut values: Vec<_> = self
            .entries
            .iter()
            .filter(|(name, _)| *name != keep)
            .filter_map(|(name, entry)| Some((entry.value.as_ref()?.end, name.clone())))
            .collect();
        values.sort_unstable();
        let mut left = self.size();
        for (_, name) in values {
            if left <= size {
                return;
            }
            let value = self
                .entries
                .get_mut(&name)
                .and_then(|entry| entry.value.take());
            left = left.saturating_sub(value.map_or(0, |kept| kept.value.len()));
        }
    }

    /// What there is under this name and is not over.
    fn entry(&mut self, name: &Name, now: u64) -> &mut TableEntry {
        let entry = self.entries.entry(name.clone()).or_default();
        entry.prune(now);
        entry
    }
}

impl TableEntry {
    fn prune(&mut self, now: u64) {
        self.value.take_if(|kept| kept.is_expired(now));
        self.lease.take_if(|kept| kept.is_expired(now));
        // By its end alone: a clock that was set back must not make fences smaller.
        self.fence.take_if(|kept| kept.end <= now);
    }
}

/// At least one: what is put for no time at all is over at the next moment, and not before.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX)
        .max(1)
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
    fn a_clock_that_was_set_back_by_an_hour_revives_nothing_and_holds_up_nobody() {
        let mut table = Table::default();
        table.put(&name("a"), "v".into(), MINUTE, None, NOW);
        let first = table.lease(&name("a"), MINUTE, "one", NOW).unwrap();
        let back = NOW - micros(MINUTE * 60);
        assert_eq!(table.get(&name("a"), back), None);
        let second = table.lease(&name("a"), MINUTE, "two", back).unwrap();
        assert!(first.fence() < second.fence());
    }

    #[test]
    fn a_clock_that_steps_back_by_a_second_ends_nothing() {
        let mut table = Table::default();
        table.put(&name("a"), "v".into(), MINUTE, None, NOW);
        table.lease(&name("a"), MINUTE, "one", NOW).unwrap();
        let back = NOW - 1_000_000;
        assert!(table.get(&name("a"), back).is_some());
        assert_eq!(table.lease(&name("a"), MINUTE, "two", back), None);
    }

    #[test]
    fn fences_grow_over_the_loss_of_everything() {
        let mut lost = Table::default();
        let mut before = Fence::new(0);
        for i in 0..1000 {
            let lease = lost
                .lease(&name("a"), Duration::ZERO, "one", NOW + i)
                .unwrap();
            assert!(before < lease.fence());
            before = lease.fence();
        }
        let mut anew = Table::default();
        let lease = anew.lease(&name("a"), MINUTE, "one", NOW + 2000).unwrap();
        assert!(before < lease.fence());
    }

    #[test]
    fn what_is_over_leaves_nothing_behind_after_a_day() {
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
    fn what_ends_first_makes_room() {
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
