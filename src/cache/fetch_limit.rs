//! How many fetches run at once.
//!
//! A place is lent and not given: its flight may stand in a runtime that is polled no more, and would keep it for ever.
//! A flight gives its place back within its deadline, so one that has not done so by twice that time is dead, and its
//! place goes to another. Nor can a place be lost to somebody who queues there: whoever queues looks again by himself.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, futures::Notified};

use crate::clock::Moment;

pub(super) struct Places {
    most: usize,
    lent: Mutex<Lent>,
    returned: Notify,
}

#[derive(Default)]
struct Lent {
    last: u64,
    /// By number, so by age too: until when each is lent.
    until: BTreeMap<u64, Moment>,
}

/// A place among the fetches that run; its drop gives it back.
pub(super) struct Place<'a> {
    places: &'a Places,
    number: u64,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            lent: Mutex::default(),
            returned: Notify::new(),
        }
    }

    /// A place until then at most, if one is free.
    pub(super) fn take(&self, now: Moment, until: Moment) -> Option<Place<'_>> {
        let mut lent = self.lent();
        while let Some(oldest) = lent.until.first_entry()
            && oldest.get().is_past(now)
        {
            oldest.remove();
        }
        if lent.until.len() >= self.most {
            return None;
        }
        lent.last += 1;
        let number = lent.last;
        lent.until.insert(number, until);
        Some(Place {
            places: self,
            number,
        })
    }

    /// Ends when a place is given back, or soon before; it may be gone again by then.
    pub(super) fn returned(&self) -> Notified<'_> {
        self.returned.notified()
    }

    fn lent(&self) -> MutexGuard<'_, Lent> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.places.lent().until.remove(&self.number);
        self.places.returned.notify_one();
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
    fn there_are_as_many_as_there_are() {
        let places = Places::new(2);
        let later = NOW + Duration::from_secs(1);
        let first = places.take(NOW, later);
        let _second = places.take(NOW, later);
        assert!(first.is_some() && places.take(NOW, later).is_none());
        drop(first);
        assert!(places.take(NOW, later).is_some());
    }

    #[test]
    fn one_that_is_kept_too_long_goes_to_another_and_its_return_frees_no_second() {
        let places = Places::new(1);
        let later = NOW + Duration::from_secs(1);
        let kept = places.take(NOW, later);
        let next = places.take(later, later + Duration::from_secs(1));
        assert!(next.is_some());
        drop(kept);
        assert!(places.take(later, later).is_none());
    }
}
