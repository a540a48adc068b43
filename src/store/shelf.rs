//! What a store does, as a state machine without I/O: values, leases and fences, and a time that is given.
//!
//! The memory store keeps one behind a lock, the file store reads and writes one. The time is in microseconds since any
//! moment that all users of a shelf mean; it should not go back, and harm is bounded where it does.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::{Fence, Lease, Name};

/// Values, leases and fences by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shelf {
    pub(super) spots: BTreeMap<Name, Spot>,
}

/// What there is under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) value: Option<Kept<Bytes>>,
    pub(super) lease: Option<Kept<Box<str>>>,
    /// The highest that was given, for as long as anybody may come with a lower one.
    pub(super) fence: Option<Kept<u64>>,
}

/// Something that is over at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept<T> {
    pub(super) it: T,
    pub(super) end: u64,
}

/// How long a fence is remembered after its lease: longer than anybody sleeps over the end of one.
pub(super) const FENCES_LAST: Duration = Duration::from_secs(24 * 3600);

impl<T> Kept<T> {
    fn new(it: T, lifetime: Duration, now: u64) -> Self {
        Self {
            it,
            end: now.saturating_add(micros(lifetime)),
        }
    }

    fn is_over(&self, now: u64) -> bool {
        self.end <= now
    }
}

impl Shelf {
    pub(super) fn get(&self, name: &Name, now: u64) -> Option<Bytes> {
        let value = self.spots.get(name)?.value.as_ref()?;
        (!value.is_over(now)).then(|| value.it.clone())
    }

    pub(super) fn put(
        &mut self,
        name: &Name,
        value: Bytes,
        lifetime: Duration,
        fence: Option<Fence>,
        now: u64,
    ) -> bool {
        let spot = self.spot(name, now);
        let highest = spot.fence.as_ref().map(|fence| fence.it);
        if fence.is_some_and(|fence| Some(fence.get()) < highest) {
            return false;
        }
        spot.value = Some(Kept::new(value, lifetime, now));
        true
    }

    pub(super) fn delete_if(&mut self, name: &Name, value: &Bytes, now: u64) -> bool {
        let spot = self.spot(name, now);
        spot.value.take_if(|kept| kept.it == *value).is_some()
    }

    /// Gives a lease to this holder, if nobody has it.
    pub(super) fn lease(
        &mut self,
        name: &Name,
        lifetime: Duration,
        holder: &str,
        now: u64,
    ) -> Option<Lease> {
        let spot = self.spot(name, now);
        if spot.lease.is_some() {
            return None;
        }
        // A shelf that was lost and begun anew goes on above the fences it gave: the time is above them all.
        let highest = spot.fence.as_ref().map_or(0, |fence| fence.it);
        let fence = highest.saturating_add(1).max(now);
        spot.fence = Some(Kept::new(fence, lifetime.saturating_add(FENCES_LAST), now));
        spot.lease = Some(Kept::new(holder.into(), lifetime, now));
        Some(Lease::new(Fence::new(fence), holder))
    }

    pub(super) fn release(&mut self, name: &Name, lease: &Lease, now: u64) {
        let spot = self.spot(name, now);
        spot.lease.take_if(|kept| *kept.it == *lease.holder());
    }

    /// Drops everything that is over.
    pub(super) fn prune(&mut self, now: u64) {
        self.spots.retain(|_, spot| {
            spot.prune(now);
            spot.value.is_some() || spot.lease.is_some() || spot.fence.is_some()
        });
    }

    /// Drops the value that ends first; says whether there was one.
    pub(super) fn drop_first_to_end(&mut self) -> bool {
        let ends = |spot: &&mut Spot| spot.value.as_ref().map_or(u64::MAX, |kept| kept.end);
        let first = self
            .spots
            .values_mut()
            .filter(|spot| spot.value.is_some())
            .min_by_key(ends);
        first.is_some_and(|spot| spot.value.take().is_some())
    }

    /// What there is under this name and is not over.
    fn spot(&mut self, name: &Name, now: u64) -> &mut Spot {
        let spot = self.spots.entry(name.clone()).or_default();
        spot.prune(now);
        spot
    }
}

impl Spot {
    fn prune(&mut self, now: u64) {
        self.value.take_if(|kept| kept.is_over(now));
        self.lease.take_if(|kept| kept.is_over(now));
        self.fence.take_if(|kept| kept.is_over(now));
    }
}

/// At least one: what is put for no time at all is over at the next moment, and not before.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros())
        .unwrap_or(u64::MAX)
        .max(1)
}
