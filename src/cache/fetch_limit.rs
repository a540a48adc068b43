//! Limits the number of concurrent fetches.
//!
//! A permit expires: a fetch on a runtime that is no longer polled would otherwise hold its permit forever. A fetch ends
//! within its deadline, so a permit that is older than twice that time belongs to a dead fetch and goes to another.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::clock::Moment;

#[derive(Default)]
pub(super) struct FetchLimit {
    max: usize,
    permits: Mutex<Permits>,
    /// Notified when a permit is released. Another fetch may have acquired it by then.
    pub(super) released: Notify,
}

#[derive(Default)]
struct Permits {
    last: u64,
    /// By number, and thereby by age: when each permit expires.
    expiries: BTreeMap<u64, Moment>,
}

/// One of the permits. Dropping it releases it.
pub(super) struct FetchPermit<'a> {
    limit: &'a FetchLimit,
    number: u64,
}

impl FetchLimit {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            ..Self::default()
        }
    }

    /// Returns a permit that expires at `expiry`, if one is free.
    pub(super) fn acquire(&self, now: Moment, expiry: Moment) -> Option<FetchPermit<'_>> {
        let mut permits = self.permits();
        while let Some(oldest) = permits.expiries.first_entry()
            && oldest.get().is_past(now)
        {
            oldest.remove();
        }
        if permits.expiries.len() >= self.max {
            return None;
        }
        permits.last += 1;
        let number = permits.last;
        permits.expiries.insert(number, expiry);
        Some(FetchPermit {
            limit: self,
            number,
        })
    }

    fn permits(&self) -> MutexGuard<'_, Permits> {
        self.permits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FetchPermit<'_> {
    fn drop(&mut self) {
        self.limit.permits().expiries.remove(&self.number);
        self.limit.released.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Moment = Moment {
        monotonic: 1,
        wall: 1,
    };

    #[test]
    fn expired_permit_goes_to_another_and_its_drop_frees_none() {
        let limit = FetchLimit::new(1);
        let later = NOW + Duration::from_secs(1);
        let expired = limit.acquire(NOW, later);
        assert!(limit.acquire(NOW, later).is_none());
        let next = limit.acquire(later, later + Duration::from_secs(1));
        assert!(next.is_some());
        drop(expired);
        assert!(limit.acquire(later, later).is_none());
    }
}
